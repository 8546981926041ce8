# Rule: the page below the stack is a guard.
# expect: fault page-fault vector=14 error=0x4 region=stack side=below distance=8
.include "muscle.inc"
begin
    boot rax, BOOT_STACK_TOP
    sub rax, [rbx + BOOT_STACK_LEN]
    mov rcx, [rax - 8]
    not_stopped
