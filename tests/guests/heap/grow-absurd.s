# Rule: a request for more pages than there are addresses gives nothing.
# expect: fault heap-beyond-grant region=heap side=inside
.include "muscle.inc"
begin
    ring GROW, -1
    mov rax, 0x0010000000000001
    mov [r13 + GROW], rax
    mov rax, [r12]
    cmp rax, [rbx + BOOT_HEAP_LEN]
    je 1f
    exit CODE_WRONG_ANSWER
1:  boot rcx, BOOT_HEAP
    mov [rcx + rax], rax
    not_stopped
