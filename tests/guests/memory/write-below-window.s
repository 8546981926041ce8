# Rule: the page below the window is a guard.
# expect: fault page-fault vector=14 error=0x6 region=window side=below distance=8
.include "muscle.inc"
begin
    mov rax, r12
    mov [rax - 8], rcx
    not_stopped
