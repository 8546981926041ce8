# Rule: a handle that nobody gave is refused.
# expect: exit 2
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.out", frame_end
    .byte 0x81, 0x41, 0x78
frame_end:
begin
    connect
    mov rax, 0x1badb002deadbeef
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
