# Rule: a frame that was begun on one connection is not continued on the next.
# expect: exit any-of=1,2,8
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
half:
    .long 4, 1
    .byte 0, 4
half_end:
frame:
    .long 4, 1
    .byte 0, 4, 0, 0
    .long 0
    .quad 0
    .ascii "name"
frame_end:
begin
    connect
    send_frame half, (half_end - half)
    send RESET, RPC_PORT
    send REQUEST, RPC_PORT
    expect RESPONSE
    send_frame frame, (frame_end - frame)
    exit_with_error_code
channel
