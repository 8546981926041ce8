# Rule: the page above the window is a guard.
# expect: fault page-fault vector=14 error=0x4 region=window side=above distance=1
.include "muscle.inc"
begin
    mov rax, r12
    add rax, [rbx + BOOT_WINDOW_LEN]
    mov rcx, [rax]
    not_stopped
