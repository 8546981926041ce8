# Breaks no rule unless it is asked to: as lends, and asks to delegate on what it has so.
# expect: exit 0
# on: node
# style: reactor
# exports: books cut delegate ever gamble hour many new open read stat take undelegate wrong
# limits: deadline_ms=50000 cpu_ms=50000
# slots: books=files:rw:65536:8 dice=random from=channel:receive:1000:take lent=files:rw:65536:8@@from noise=random@@from time=clock:coarse@@from to=channel:send:1000:1000 watch=clock:coarse
.include "lend.inc"
