# Rule, when it is hot: goes on polling when it is told to park.
# expect: exit 0
# style: reactor
# exports: count echo
# call: echo [1]
# stdout: [1]\n
.include "muscle.inc"
.include "channel.inc"
.purgem when_polling
.macro when_polling
1:  pause
    mov ax, [rip + seen]
    cmp ax, [r12 + RX + USED + 2]
    je 1b
.endm
begin
    connect
    serve_echo
channel
