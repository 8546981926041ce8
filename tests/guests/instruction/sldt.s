# Rule: ring 3 cannot learn the local table's selector (UMIP).
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    sldt eax
    not_stopped
