# Rule: control register 0 cannot be written in part.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    mov eax, 0x31
    lmsw ax
    not_stopped
