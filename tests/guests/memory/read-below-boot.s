# Rule: the page below the boot pages is a guard.
# expect: fault page-fault vector=14 error=0x4 region=boot side=below distance=8
.include "muscle.inc"
begin
    mov rax, rbx
    and rax, -4096
    mov rcx, [rax - 8]
    not_stopped
