# Rule: ud2 raises #UD.
# expect: fault invalid-opcode vector=6 region=code side=inside
.include "muscle.inc"
begin
    ud2
    not_stopped
    .size _start, . - _start
