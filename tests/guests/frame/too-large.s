# Rule: a frame is no larger than the host takes.
# expect: fault frame message="4294967295 bytes"
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long -1, 1
    .byte 0, 4, 0, 0
    .long 0
    .quad 0
    .ascii "name"
frame_end:
begin
    connect
    send_frame frame, (frame_end - frame)
    not_stopped
channel
