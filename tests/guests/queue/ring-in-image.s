# Rule: a queue lies in the window or the heap.
# expect: fault channel message="descriptor table of queue 1"
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
    image_gpa
    mov [r14 + 0x80], eax
    register_write 0x84, 0
    register_write 0x44, 1
    not_stopped
channel
