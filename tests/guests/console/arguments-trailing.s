# Rule: bytes after the arguments are refused.
# expect: exit 9
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.out", frame_end
    .byte 0x81, 0x41, 0x78, 0x00
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
