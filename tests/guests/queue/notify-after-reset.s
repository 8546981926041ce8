# Rule: a device that was reset takes no notification.
# expect: fault channel message="may not be written while the status is 0x0"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x70, 0
    register_write 0x50, 1
    not_stopped
channel
