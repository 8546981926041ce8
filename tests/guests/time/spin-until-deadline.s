# Rule: a muscle that spins is ended by its deadline.
# expect: fault deadline
# limits: deadline_ms=200
.include "muscle.inc"
begin
1:  jmp 1b
