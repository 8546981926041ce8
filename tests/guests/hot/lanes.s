# Breaks no rule: as reactor/echoes.s, with calls by the lane too.
# expect: exit 0
# style: reactor
# exports: count echo lane
# call: echo [1]
# stdout: [1]\n
.equ LANE_TOO, 1
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    serve_echo
channel
