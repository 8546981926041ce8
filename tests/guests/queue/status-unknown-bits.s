# Rule: the status has no other bits than the driver's.
# expect: fault channel message="may not set"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x70, 0x4f
    not_stopped
channel
