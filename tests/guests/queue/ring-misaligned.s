# Rule: a descriptor table is aligned to 16 bytes.
# expect: fault channel message="not a multiple of 16"
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
    register_write 0x38, 64
    register_write 0x80, 0x30001008
    register_write 0x84, 0
    register_write 0x44, 1
    not_stopped
channel
