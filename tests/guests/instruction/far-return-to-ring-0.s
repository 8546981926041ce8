# Rule: a far return cannot raise the privilege level: #GP with the selector.
# expect: fault general-protection vector=13 error=0x8 region=code side=inside
# expect-tcg: fault page-fault vector=14 error=0x1 region=stack side=inside
.include "muscle.inc"
begin
    sub rsp, 64
    push 0x8
    lea rax, [rip + 1f]
    push rax
    retfq
1:
    not_stopped
