# Rule: the available index may not move by more than the queue has entries.
# expect: fault channel message="available index"
.include "muscle.inc"
.include "channel.inc"
begin
    mov word ptr [r12 + TX + AVAILABLE + 2], QUEUE_SIZE + 1
    ring YIELD, 0
    not_stopped
channel
