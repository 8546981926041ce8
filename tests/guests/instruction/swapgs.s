# Rule: the hidden GS base cannot be swapped in.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    swapgs
    not_stopped
