# Rule: control registers cannot be written.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    mov cr3, rax
    not_stopped
