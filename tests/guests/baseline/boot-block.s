# Breaks no rule: the boot block has its magic, version 2 and the flag for a ready device; the stack, the heap
# and the window can be written from end to end.
# expect: exit 0
.include "muscle.inc"
begin
    mov rax, 0x01544f4f42464552
    cmp [rbx], rax
    jne 1f
    cmp dword ptr [rbx + 8], 2
    jne 1f
    test dword ptr [rbx + BOOT_FLAGS], 1
    jz 1f
    mov [rsp - 8], rax
    mov rcx, rsp
    sub rcx, [rbx + BOOT_STACK_LEN]
    mov [rcx], rax
    boot rcx, BOOT_HEAP
    mov [rcx], rax
    add rcx, [rbx + BOOT_HEAP_LEN]
    mov [rcx - 8], rax
    mov [r12], rax
    mov rcx, r12
    add rcx, [rbx + BOOT_WINDOW_LEN]
    mov [rcx - 8], rax
    exit 0
1:  exit CODE_WRONG_ANSWER
