# Rule, when it is hot: says that it reads the lane and does not look there.
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
    mov eax, [r12 + CALL_LANE]
    mov [rip + seen_in_lane], eax
.endm
begin
    connect
    serve_echo
channel
