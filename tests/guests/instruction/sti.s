# Rule: interrupts cannot be turned on from ring 3.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    sti
    not_stopped
