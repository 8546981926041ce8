# Rule: model-specific registers cannot be read.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    mov ecx, 0xc0000080
    rdmsr
    not_stopped
