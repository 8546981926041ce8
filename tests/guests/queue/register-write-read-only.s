# Rule: a read-only register cannot be written.
# expect: fault channel message="read-only"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x000, 0x1234
    not_stopped
channel
