# Rule: a log line has a level that exists.
# expect: exit any-of=5,9
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.log", frame_end
    .byte 0x83, 0x09, 0x61, 0x78, 0x61, 0x78
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
