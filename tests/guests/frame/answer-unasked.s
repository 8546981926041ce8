# Rule: an answer belongs to a call.
# expect: fault unexpected-answer message="call 1"
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 1, 1
    .byte 1, 0, 0, 0
    .long 0
    .quad 0
    .byte 0xf6
frame_end:
begin
    connect
    send_frame frame, (frame_end - frame)
    not_stopped
channel
