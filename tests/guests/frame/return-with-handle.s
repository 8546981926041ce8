# Rule: an answer has no handle.
# expect: fault frame message="without name"
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 1, 1
    .byte 1, 0, 0, 0
    .long 0
    .quad 1
    .byte 0xf6
frame_end:
begin
    connect
    send_frame frame, (frame_end - frame)
    not_stopped
channel
