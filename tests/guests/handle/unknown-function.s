# Rule: a call that does not exist is answered so.
# expect: exit any-of=1,8
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.format", frame_end
    .byte 0x80
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
