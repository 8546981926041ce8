# Rule: a null selector is no stack of ring 3: #GP.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    xor eax, eax
    mov ss, ax
    not_stopped
