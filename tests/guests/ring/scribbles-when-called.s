# Breaks no rule of its cell: as scribbles.s, in a call that is never answered.
# expect: fault any-of=deadline,cpu-limit
# style: reactor
# exports: f
# call: f []
# slots: ring=ring:send:262144
# limits: deadline_ms=3000 cpu_ms=3000
.include "muscle.inc"
begin
    ring_base 0
    mov r8, rdi
    mov r9, 0x9e3779b97f4a7c15
    mov r10, 1
1:  lea rdi, [r8 + SENDER_PAGE]
    mov ecx, (4096 + 262144) / 8
2:  mov rax, r10
    imul r10, r9
    add r10, 1
    shr rax, 48
    mov rdx, [r8 + SENDER_HOST_PAGE]
    shl rdx, 32
    and eax, 1023
    or rax, rdx
    mov [rdi], rax
    add rdi, 8
    dec ecx
    jnz 2b
    grant 0
    mov [r13 + RING_WAKE], rax
    jmp 1b
