# Rule: an exit code is not cut to 8 bits.
# expect: fault exit-code message="18446744073709551615"
.include "muscle.inc"
begin
    exit -1
