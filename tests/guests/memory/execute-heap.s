# Rule: the heap cannot be executed.
# expect: fault page-fault vector=14 error=0x15 region=heap side=inside
.include "muscle.inc"
begin
    boot rax, BOOT_HEAP
    mov byte ptr [rax], 0xc3
    call rax
    not_stopped
