# Rule: an answer repeats the call's number.
# expect: fault unexpected-answer message="call 77"
# style: reactor
# exports: f
# call: f []
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
    expect_frame KIND_CALL
    copy_frame frame, (frame_end - frame)
    mov dword ptr [r12 + BODY + 4], 77
    send DATA, RPC_PORT, (frame_end - frame)
    not_stopped
channel
