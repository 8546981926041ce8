# Rule: ringing without end is no more than using up time.
# expect: fault any-of=deadline,cpu-limit
# slots: ring=ring:send:4096
# limits: deadline_ms=200 cpu_ms=200
.include "muscle.inc"
begin
    ring_base 0
1:  grant 0
    mov [r13 + RING_WAKE], rax
    jmp 1b
