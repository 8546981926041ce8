# Rule: no-execute cannot be turned off.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    mov ecx, 0xc0000080
    xor eax, eax
    xor edx, edx
    wrmsr
    not_stopped
