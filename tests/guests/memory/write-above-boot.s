# Rule: the page above the boot pages is a guard.
# expect: fault page-fault vector=14 error=0x6 region=boot side=above distance=1
.include "muscle.inc"
begin
    mov rax, rbx
    and rax, -4096
    add rax, 4096
    mov [rax], rcx
    not_stopped
