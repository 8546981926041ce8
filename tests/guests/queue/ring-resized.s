# Rule: a queue cannot be resized while it is in use.
# expect: fault channel message="while the queue was ready"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x30, 0
    register_write 0x38, 256
    not_stopped
channel
