# Rule: translations cannot be dropped.
# expect: fault any-of=general-protection,invalid-opcode
.include "muscle.inc"
begin
    xor eax, eax
    invpcid rax, [r12]
    not_stopped
