# Breaks no rule: rings a doorbell each time that it is asked to poll.
# expect: exit 0
# style: reactor
# exports: count echo
# call: echo [1]
# stdout: [1]\n
.include "muscle.inc"
.include "channel.inc"
.purgem when_polling
.macro when_polling
    ring YIELD, 0
.endm
begin
    connect
    serve_echo
channel
