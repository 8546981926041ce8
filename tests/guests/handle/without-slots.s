# Rule: a cell without slots has no handle that works.
# expect: exit 2
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.out", frame_end
    .byte 0x81, 0x41, 0x78
frame_end:
begin
    connect
    mov rax, 0x100000000
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
