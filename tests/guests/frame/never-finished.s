# Rule: a frame that never ends holds nobody up but its sender.
# expect: fault parked-for-ever
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 60000, 1
    .byte 0, 4, 0, 0
    .long 0
    .quad 0
    .ascii "name"
frame_end:
begin
    connect
    send_frame frame, (frame_end - frame)
    ring PARK, 0
    not_stopped
channel
