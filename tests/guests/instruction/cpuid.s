# Rule: cpuid is allowed and shows the small table.
# expect: exit 0
.include "muscle.inc"
begin
    mov eax, 1
    xor ecx, ecx
    cpuid
    bt ecx, 31
    jnc 1f
    exit 0
1:  exit CODE_WRONG_ANSWER
    not_stopped
