# Breaks no rule: parks although it is asked to poll.
# expect: exit 0
# style: reactor
# exports: count echo
# call: echo [1]
# stdout: [1]\n
.equ NEVER_POLL, 1
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    serve_echo
channel
