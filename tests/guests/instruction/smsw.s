# Rule: ring 3 cannot read control register 0 (UMIP).
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    smsw eax
    not_stopped
