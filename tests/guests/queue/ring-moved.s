# Rule: a queue cannot be moved while it is in use.
# expect: fault channel message="while the queue was ready"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x30, 1
    register_write 0x80, 0x10000000
    not_stopped
channel
