# Breaks no rule: answers a call with null.
# expect: exit 0
# style: reactor
# exports: f
# call: f []
# limits: memory=33554432
# stdout: null\n
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
    mov eax, [rsi + 4]
    mov r8d, eax
    copy_frame frame, (frame_end - frame)
    mov [r12 + BODY + 4], r8d
    send DATA, RPC_PORT, (frame_end - frame)
    ring PARK, 0
    not_stopped
channel
