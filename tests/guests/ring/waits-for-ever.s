# Rule: waiting for somebody who never comes ends with the deadline.
# expect: fault deadline
# slots: ring=ring:receive:4096
# limits: deadline_ms=200
.include "muscle.inc"
begin
    ring_base 0
1:  grant 0
    mov [r13 + RING_WAIT], rax
    jmp 1b
