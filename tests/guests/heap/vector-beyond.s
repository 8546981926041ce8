# Rule: a 16-byte store to heap that was not asked for is a fault like any other.
# expect: fault heap-beyond-grant region=heap side=inside
.include "muscle.inc"
begin
    boot rax, BOOT_HEAP
    add rax, [rbx + BOOT_HEAP_LEN]
    movups [rax], xmm0
    not_stopped
