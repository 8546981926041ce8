# Rule: a sender cannot say who has ended.
# expect: fault page-fault vector=14 error=0x7 region=ring-readable side=inside
# slots: ring=ring:send:4096
.include "muscle.inc"
begin
    ring_base 0
    mov [rdi + SENDER_HOST_PAGE], rax
    not_stopped
