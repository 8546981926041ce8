# Rule: ringing without end, in a call that is never answered, is no more than using up time.
# expect: fault any-of=deadline,cpu-limit
# style: reactor
# exports: f
# call: f []
# slots: ring=ring:send:262144
# limits: deadline_ms=2000 cpu_ms=2000
.include "muscle.inc"
begin
1:  grant 0
    mov [r13 + RING_WAKE], rax
    jmp 1b
