# Rule: an exit code is not cut to 8 bits.
# expect: fault exit-code message="256"
.include "muscle.inc"
begin
    exit 256
