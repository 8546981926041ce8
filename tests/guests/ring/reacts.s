# Breaks no rule: a reactor with a ring, which ends instead of answering.
# expect: exit 0
# style: reactor
# exports: f
# call: f []
# slots: ring=ring:receive:4096
.include "muscle.inc"
begin
    exit 0
