# Rule: what a muscle posted before a page fault is carried.
# expect: fault page-fault vector=14
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
    mov rax, [rax]
    not_stopped
channel
