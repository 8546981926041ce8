# Rule: heap that was not asked for has no memory.
# expect: fault heap-beyond-grant region=heap side=inside
.include "muscle.inc"
begin
    boot rax, BOOT_HEAP
    add rax, [rbx + BOOT_HEAP_LEN]
    mov rcx, [rax]
    not_stopped
