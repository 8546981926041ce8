# Rule: ring 3 cannot learn the task register (UMIP).
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    str eax
    not_stopped
