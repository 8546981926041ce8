# Rule: heap grows page by page to the memory limit, every byte of it can be written, and the next byte is a guard.
# expect: fault page-fault vector=14 error=0x6 region=heap side=above distance=1
.include "muscle.inc"
begin
1:  mov r15, [r12]
    ring GROW, 1
    cmp r15, [r12]
    jne 1b
    cmp r15, [rbx + BOOT_HEAP_MAX]
    je 2f
    exit CODE_WRONG_ANSWER
2:  boot rdi, BOOT_HEAP
    mov rcx, r15
    mov eax, 0x5a
    rep stosb
    stosb
    not_stopped
