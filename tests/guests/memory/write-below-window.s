# Rule: below the window are the boot pages, which nobody writes to.
# expect: fault page-fault vector=14 error=0x7 region=boot side=inside
.include "muscle.inc"
begin
    mov rax, r12
    mov [rax - 8], rcx
    not_stopped
