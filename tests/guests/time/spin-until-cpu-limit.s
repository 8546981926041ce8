# Rule: a muscle that spins is ended by its CPU limit.
# expect: fault cpu-limit
# limits: cpu_ms=200
.include "muscle.inc"
begin
1:  jmp 1b
