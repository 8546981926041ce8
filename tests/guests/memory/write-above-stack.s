# Rule: the page above the stack is a guard.
# expect: fault page-fault vector=14 error=0x6 region=stack side=above distance=1
.include "muscle.inc"
begin
    boot rax, BOOT_STACK_TOP
    mov [rax], rcx
    not_stopped
