# Rule: a name that is no text is a name of nothing.
# expect: exit any-of=1,2,8
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 4, 1
    .byte 0, 4, 0, 0
    .long 0
    .quad 0
    .byte 0xff, 0xfe, 0x80, 0
frame_end:
begin
    connect
    send_frame frame, (frame_end - frame)
    exit_with_error_code
channel
