# Rule: nobody wakes by a handle that is none of its rings'.
# expect: fault ring-handle
# slots: ring=ring:send:4096
.include "muscle.inc"
begin
    ring_base 0
    mov rax, -1
    mov [r13 + RING_WAKE], rax
    not_stopped
