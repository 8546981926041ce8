# Rule: a handle is good for its own capability alone: the console opens no file.
# expect: exit any-of=1,8
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "files.open", frame_end
    .byte 0x82, 0x61, 0x78, 0
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
