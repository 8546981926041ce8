# Rule: control registers cannot be read.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    mov rax, cr2
    not_stopped
