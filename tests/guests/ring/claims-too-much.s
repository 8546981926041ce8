# Breaks no rule of its cell: says that more is in the ring than it holds.
# expect: exit 0
# slots: ring=ring:send:262144
.include "muscle.inc"
begin
    ring_base 0
    mov rax, [rdi + SENDER_HOST_PAGE]
    shl rax, 32
    or rax, 40000
    mov [rdi + SENDER_PAGE], rax
    exit 0
