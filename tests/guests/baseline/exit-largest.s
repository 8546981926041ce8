# Breaks no rule: 99 is the largest exit code that is the muscle's own.
# expect: exit 99
.include "muscle.inc"
begin
    exit 99
