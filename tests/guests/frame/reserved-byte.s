# Rule: reserved bytes of a frame are zero.
# expect: fault frame message="reserved"
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 4, 1
    .byte 0, 4, 1, 0
    .long 0
    .quad 0
    .ascii "name"
frame_end:
begin
    connect
    send_frame frame, (frame_end - frame)
    not_stopped
channel
