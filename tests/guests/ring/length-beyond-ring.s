# Breaks no rule of its cell: says that a message is longer than the ring.
# expect: exit 0
# slots: ring=ring:send:262144
.include "muscle.inc"
begin
    ring_base 0
    mov rax, 524288
    mov [rdi + RING_DATA], rax
    mov rax, [rdi + SENDER_HOST_PAGE]
    shl rax, 32
    or rax, 2
    mov [rdi + SENDER_PAGE], rax
    exit 0
