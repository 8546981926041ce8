# Breaks no rule: loads a segment of its own, which nothing that keeps a muscle can keep, and then answers calls as `echoes` does.
# expect: exit 0
# style: reactor
# exports: count echo
# call: echo [1]
# stdout: [1]\n
.include "muscle.inc"
.include "channel.inc"
begin
    # CPUID 7, EBX bit 0: ring 3 may set the base of FS. Elsewhere it has only selectors.
    push rbx
    mov eax, 7
    xor ecx, ecx
    cpuid
    mov edx, ebx
    pop rbx
    xor eax, eax
    mov fs, ax
    test edx, 1
    jz 1f
    movabs rax, 0x1234567000
    wrfsbase rax
1:  connect
    serve_echo
channel
