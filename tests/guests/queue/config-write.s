# Rule: the cell's own address cannot be written.
# expect: fault channel message="read-only"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x100, 2
    not_stopped
channel
