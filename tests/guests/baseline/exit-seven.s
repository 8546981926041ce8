# Breaks no rule: the exit code is the muscle's own.
# expect: exit 7
.include "muscle.inc"
begin
    exit 7
