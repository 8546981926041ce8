# Rule: iretq cannot raise the privilege level: #GP with the selector.
# expect: fault general-protection vector=13 error=0x8 region=code side=inside
# expect-tcg: fault page-fault vector=14 error=0x1 region=stack side=inside
.include "muscle.inc"
begin
    mov rdx, rsp
    push 0x10
    push rdx
    push 2
    push 0x8
    lea rax, [rip + 1f]
    push rax
    iretq
1:
    not_stopped
