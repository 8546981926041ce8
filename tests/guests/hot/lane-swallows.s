# Rule, when it is hot: takes calls from the lane and answers none of them.
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
.endm
begin
    connect
    serve_echo
channel
