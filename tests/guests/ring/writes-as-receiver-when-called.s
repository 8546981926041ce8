# Rule: a receiver cannot write what the sender writes, whichever process that is in.
# expect: fault page-fault vector=14 error=0x7 region=ring-readable side=inside
# style: reactor
# exports: f
# call: f []
# slots: ring=ring:receive:4096
.include "muscle.inc"
begin
    ring_base 0
    mov qword ptr [rdi + SENDER_PAGE], rax
    not_stopped
