# Rule: what a muscle posted before it uses a port without a grant is carried.
# expect: fault port
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
    mov dx, 0x3f8
    in al, dx
    not_stopped
channel
