# Rule: the set of vector states cannot be changed.
# expect: fault any-of=general-protection,invalid-opcode
.include "muscle.inc"
begin
    xor ecx, ecx
    mov eax, 3
    xor edx, edx
    xsetbv
    not_stopped
