# Rule, when it is asked to: a function whose name does not begin with c or e never comes back.
# expect: exit 0
# style: reactor
# exports: count echo spin
# call: echo [1]
# stdout: [1]\n
.equ SPIN_TOO, 1
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    serve_echo
channel
