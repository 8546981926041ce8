# Rule: a 16-byte store is two of 8 bytes; the second hits no doorbell.
# expect: fault doorbell message="0x28"
.include "muscle.inc"
begin
    movups [r13 + YIELD], xmm0
    not_stopped
