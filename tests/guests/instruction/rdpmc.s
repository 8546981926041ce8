# Rule: performance counters cannot be read.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    xor ecx, ecx
    rdpmc
    not_stopped
