# Rule: model-specific registers cannot be written.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    mov ecx, 0xc0000082
    xor eax, eax
    xor edx, edx
    wrmsr
    not_stopped
