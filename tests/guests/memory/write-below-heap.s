# Rule: the page below the heap's reservation is a guard.
# expect: fault page-fault vector=14 error=0x6 region=heap side=below distance=8
.include "muscle.inc"
begin
    boot rax, BOOT_HEAP
    mov [rax - 8], rcx
    not_stopped
