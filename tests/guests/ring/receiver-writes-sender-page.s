# Rule: a receiver cannot write the sender's index.
# expect: fault page-fault vector=14 error=0x7 region=ring-readable side=inside
# slots: ring=ring:receive:4096
.include "muscle.inc"
begin
    ring_base 0
    mov [rdi + SENDER_PAGE], rax
    not_stopped
