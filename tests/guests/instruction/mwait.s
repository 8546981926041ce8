# Rule: ring 3 cannot stop the processor.
# expect: fault any-of=general-protection,invalid-opcode region=code side=inside
.include "muscle.inc"
begin
    xor eax, eax
    xor ecx, ecx
    .byte 0x0f, 0x01, 0xc9
    not_stopped
