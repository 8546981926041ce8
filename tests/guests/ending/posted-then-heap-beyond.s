# Rule: what a muscle posted before it touches heap that it was not given is carried.
# expect: fault heap-beyond-grant
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
    boot rcx, BOOT_HEAP
    add rcx, [rbx + BOOT_HEAP_LEN]
    mov rax, [rcx]
    not_stopped
channel
