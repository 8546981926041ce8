# Rule: the page below the heap's reservation is a guard.
# expect: fault page-fault vector=14 error=0x4 region=heap side=below distance=8
.include "muscle.inc"
begin
    boot rax, BOOT_HEAP
    mov rcx, [rax - 8]
    not_stopped
