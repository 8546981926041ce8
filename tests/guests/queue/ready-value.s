# Rule: a queue is ready or not.
# expect: fault channel message="readiness of queue 1 was set to 2"
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
    register_write 0x44, 2
    not_stopped
channel
