# Rule: registers take accesses of 4 bytes.
# expect: fault channel message="accessed with 1 bytes"
.include "muscle.inc"
.include "channel.inc"
begin
    mov al, [r14 + 0x70]
    not_stopped
channel
