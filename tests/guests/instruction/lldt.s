# Rule: no local segment table can be loaded.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    xor eax, eax
    lldt ax
    not_stopped
