# Breaks no rule: at entry all general registers but rdi and rsp are zero, so that nothing of the host is in them.
# expect: exit 0
.include "muscle.inc"
every_segment
    .text
    .globl _start
_start:
    or rax, rbx
    or rax, rcx
    or rax, rdx
    or rax, rsi
    or rax, rbp
    or rax, r8
    or rax, r9
    or rax, r10
    or rax, r11
    or rax, r12
    or rax, r13
    or rax, r14
    or rax, r15
    mov rcx, [rdi + BOOT_DOORBELL]
    mov rdx, CODE_WRONG_ANSWER
    test rax, rax
    cmovnz rax, rdx
    mov [rcx + EXIT], rax
    ud2
