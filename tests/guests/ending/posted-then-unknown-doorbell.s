# Rule: what a muscle posted before it misuses a doorbell is carried.
# expect: fault doorbell message="0x28"
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
    mov [r13 + 0x28], rax
    not_stopped
channel
