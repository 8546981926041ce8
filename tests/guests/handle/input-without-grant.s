# Rule: standard input needs a grant that says so.
# expect: exit 1
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.in", frame_end
    .byte 0x81, 0x10
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
