# Breaks no rule: writes a line through the queue, without a doorbell, before each answer by the lane.
# slots: console=console
# expect: exit 0
# style: reactor
# exports: count echo lane
# call: echo [1]
# stdout: [1]\n
.equ LANE_TOO, 1
.equ SAYS_TOO, 1
.include "muscle.inc"
.include "channel.inc"
.purgem answer_by_lane
.macro answer_by_lane
    grant 0
    mov r8, rax
    copy_frame frame, (frame_end - frame)
    mov [r12 + BODY + 16], r8
    packet DATA, RPC_PORT, (frame_end - frame)
    descriptor TX, 0, OUT, (HEADER + frame_end - frame)
    offer TX, 0
    mov [r12 + ANSWER_LANE], r10d
.endm
    .section .rodata
frame:
    call_frame 0x80000001, "console.out", frame_end
    .byte 0x81, 0x44
    .ascii "now\n"
frame_end:
begin
    connect
    serve_echo
channel
