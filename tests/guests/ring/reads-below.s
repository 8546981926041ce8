# Rule: there is a guard before a ring.
# expect: fault page-fault vector=14 error=0x4 region=ring-readable side=below distance=8
# slots: ring=ring:send:4096
.include "muscle.inc"
begin
    ring_base 0
    mov rax, [rdi - 8]
    not_stopped
