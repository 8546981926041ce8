# Rule: heap cannot be executed, given or not.
# expect: fault page-fault vector=14 error=0x15 region=heap side=inside
.include "muscle.inc"
begin
    boot rax, BOOT_HEAP
    add rax, [rbx + BOOT_HEAP_LEN]
    jmp rax
    not_stopped
