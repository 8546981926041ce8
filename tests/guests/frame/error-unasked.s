# Rule: an error belongs to a call.
# expect: fault unexpected-answer message="call 77"
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 1, 77
    .byte 2, 0, 0, 0
    .long 0
    .quad 0
    .byte 0xf6
frame_end:
begin
    connect
    send_frame frame, (frame_end - frame)
    not_stopped
channel
