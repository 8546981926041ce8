# Breaks no rule: a reactor with an end of each kind, which ends instead of answering.
# expect: exit 0
# style: reactor
# exports: f
# call: f []
# slots: in=ring:receive:4096 out=ring:send:4096
# on: node
.include "muscle.inc"
begin
    exit 0
