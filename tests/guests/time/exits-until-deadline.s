# Rule: a muscle that only rings doorbells is ended by its deadline all the same.
# expect: fault deadline
# limits: deadline_ms=200
.include "muscle.inc"
begin
1:  ring YIELD, 0
    jmp 1b
