# Rule: the handle of another power is no ring's.
# expect: fault ring-handle
# slots: a=random ring=ring:send:4096
.include "muscle.inc"
begin
    ring_base 0
    grant 0
    mov [r13 + RING_WAKE], rax
    not_stopped
