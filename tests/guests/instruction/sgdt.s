# Rule: ring 3 cannot learn where the segment table is (UMIP).
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    sgdt [rsp - 16]
    not_stopped
