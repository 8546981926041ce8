# Rule: a call's name lies within its frame.
# expect: fault frame message="name of 200 bytes in a body of 4"
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 4, 1
    .byte 0, 200, 0, 0
    .long 0
    .quad 0
    .ascii "name"
frame_end:
begin
    connect
    send_frame frame, (frame_end - frame)
    not_stopped
channel
