# Rule, when it is hot: answers a call by the lane that nobody made.
# expect: exit 0
# style: reactor
# exports: count echo lane
# call: echo [1]
# stdout: [1]\n
.equ LANE_TOO, 1
.include "muscle.inc"
.include "channel.inc"
.purgem answer_by_lane
.macro answer_by_lane
    inc dword ptr [r9 + 4]
    mov [r12 + ANSWER_LANE], r10d
.endm
begin
    connect
    serve_echo
channel
