# Rule: nobody waits by a handle that is none of its rings'.
# expect: fault ring-handle
# slots: ring=ring:receive:4096
.include "muscle.inc"
begin
    ring_base 0
    grant 0
    inc rax
    mov [r13 + RING_WAIT], rax
    not_stopped
