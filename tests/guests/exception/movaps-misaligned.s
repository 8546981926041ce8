# Rule: an aligned vector access to a misaligned address raises #GP.
# expect: fault general-protection vector=13 error=0x0
.include "muscle.inc"
begin
    movaps xmm0, [r12 + 1]
    not_stopped
