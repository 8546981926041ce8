# Rule: a muscle that waits beyond its deadline is ended by it.
# expect: fault deadline
# slots: clock=clock:coarse
# limits: deadline_ms=300
.include "muscle.inc"
begin
    mov rax, 0x7fffffffffffffff
    mov [r13 + PARK], rax
    not_stopped
