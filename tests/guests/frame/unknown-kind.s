# Rule: a frame is a call, a return or an error.
# expect: fault frame message="unknown kind 3"
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 4, 1
    .byte 3, 4, 0, 0
    .long 0
    .quad 0
    .ascii "name"
frame_end:
begin
    connect
    send_frame frame, (frame_end - frame)
    not_stopped
channel
