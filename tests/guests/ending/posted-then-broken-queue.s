# Rule: what a muscle posted before something that it may not post is carried.
# expect: fault channel message="outside the device's memory"
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.out", frame_end
    .byte 0x81, 0x47
    .ascii "before\n"
frame_end:
begin
    connect
    grant 0
    post_call frame, (frame_end - frame)
    xor eax, eax
    descriptor_at TX, 1, HEADER
    offer TX, 1
    ring YIELD, 0
    not_stopped
channel
