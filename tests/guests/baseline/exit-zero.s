# Breaks no rule: ends at once.
# expect: exit 0
.include "muscle.inc"
begin
    exit 0
