# Rule: GROW gives no more than the memory limit; a refused request gives nothing at all.
# expect: fault heap-beyond-grant region=heap side=inside
.include "muscle.inc"
begin
    boot rax, BOOT_HEAP_MAX
    shr rax, 12
    ring GROW, rax
    mov rax, [r12]
    cmp rax, [rbx + BOOT_HEAP_LEN]
    je 1f
    exit CODE_WRONG_ANSWER
1:  boot rcx, BOOT_HEAP
    mov [rcx + rax], rax
    not_stopped
