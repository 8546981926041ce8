# Rule: a queue that is not there cannot be notified.
# expect: fault channel message="no queue 3"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x50, 3
    not_stopped
channel
