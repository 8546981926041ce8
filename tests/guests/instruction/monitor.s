# Rule: ring 3 cannot wait for a store.
# expect: fault any-of=general-protection,invalid-opcode region=code side=inside
.include "muscle.inc"
begin
    mov rax, r12
    xor ecx, ecx
    xor edx, edx
    .byte 0x0f, 0x01, 0xc8
    not_stopped
