# Rule: the time-stamp counter is denied without a fine clock, where the processor can deny it.
# expect: exit 99
# expect-npt: fault general-protection vector=13 error=0x0
.include "muscle.inc"
begin
    rdtsc
    not_stopped
