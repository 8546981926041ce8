# Rule: a muscle that only rings doorbells pays for the host's work for it, too.
# expect: fault cpu-limit
# limits: cpu_ms=200
.include "muscle.inc"
begin
1:  ring YIELD, 0
    jmp 1b
