# Rule: the window cannot be executed.
# expect: fault page-fault vector=14 error=0x15 region=window side=inside
.include "muscle.inc"
begin
    lea rax, [r12 + 0x4000]
    mov byte ptr [rax], 0xc3
    call rax
    not_stopped
