# Rule: features are not changed after they were agreed on.
# expect: fault channel message="may not be written while the status is 0xf"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x24, 0
    register_write 0x20, 0
    not_stopped
channel
