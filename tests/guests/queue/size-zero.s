# Rule: a queue has entries.
# expect: fault channel message="was given 0 entries"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x70, 0
    register_write 0x70, 3
    register_write 0x24, 0
    register_write 0x20, 1
    register_write 0x24, 1
    register_write 0x20, 1
    register_write 0x70, 11
    register_write 0x30, 1
    register_write 0x38, 0
    not_stopped
channel
