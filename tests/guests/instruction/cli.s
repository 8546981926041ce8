# Rule: interrupts cannot be turned off from ring 3.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    cli
    not_stopped
