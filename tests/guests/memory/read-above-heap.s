# Rule: the page above the heap's reservation is a guard.
# expect: fault page-fault vector=14 error=0x4 region=heap side=above distance=1
.include "muscle.inc"
begin
    boot rax, BOOT_HEAP
    add rax, [rbx + BOOT_HEAP_MAX]
    mov rcx, [rax]
    not_stopped
