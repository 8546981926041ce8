# Rule: the stack cannot be executed.
# expect: fault page-fault vector=14 error=0x15 region=stack side=inside
.include "muscle.inc"
begin
    lea rax, [rsp - 64]
    mov byte ptr [rax], 0xc3
    call rax
    not_stopped
