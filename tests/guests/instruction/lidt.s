# Rule: the interrupt table cannot be replaced.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    lidt [rsp - 16]
    not_stopped
