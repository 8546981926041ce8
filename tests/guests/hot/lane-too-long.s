# Rule, when it is hot: says that the answer in the lane is longer than the lane.
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
    mov dword ptr [r9], 1 << 20
    mov [r12 + ANSWER_LANE], r10d
.endm
begin
    connect
    serve_echo
channel
