# Rule: an answer has no name.
# expect: fault frame message="without name"
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 4, 1
    .byte 1, 4, 0, 0
    .long 0
    .quad 0
    .ascii "name"
frame_end:
begin
    connect
    send_frame frame, (frame_end - frame)
    not_stopped
channel
