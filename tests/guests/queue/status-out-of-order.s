# Rule: the handshake's steps are not skipped.
# expect: fault channel message="skips a step"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x70, 0
    register_write 0x70, 5
    not_stopped
channel
