# Rule: ring 3 cannot learn where the interrupt table is (UMIP).
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    sidt [rsp - 16]
    not_stopped
