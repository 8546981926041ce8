# Rule, when it is hot: writes numbers and frames all over both lanes while it polls.
# expect: exit 0
# style: reactor
# exports: count echo lane
# call: echo [1]
# stdout: [1]\n
.equ LANE_TOO, 1
.include "muscle.inc"
.include "channel.inc"
.purgem when_polling
.macro when_polling
    mov eax, [rip + noise]
    imul eax, eax, 1664525
    add eax, 1013904223
    mov [rip + noise], eax
    mov ecx, eax
    shr ecx, 20
    and ecx, 0x7c
    mov [r12 + ANSWER_LANE + LANE_FRAME + rcx], eax
    mov [r12 + CALL_LANE + rcx], eax
    mov edx, [r12 + CALL_LANE]
    mov [r12 + ANSWER_LANE], edx
.endm
begin
    connect
    serve_echo
channel
    .data
noise:
    .long 1
