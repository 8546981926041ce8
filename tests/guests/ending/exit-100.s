# Rule: 100 and above are the VMM's own exit codes.
# expect: fault exit-code message="100"
.include "muscle.inc"
begin
    exit 100
