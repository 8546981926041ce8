# Rule: the operator's deadline ends a muscle that was granted more.
# expect: fault deadline
# limits: deadline_ms=50000
# run: --deadline-ms 150
.include "muscle.inc"
begin
1:  jmp 1b
