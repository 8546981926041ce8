# Rule: above the stack are the boot pages, which nobody writes to.
# expect: fault page-fault vector=14 error=0x7 region=boot side=inside
.include "muscle.inc"
begin
    boot rax, BOOT_STACK_TOP
    mov [rax], rcx
    not_stopped
