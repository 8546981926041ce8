# Rule: the breakpoint raises #BP.
# expect: fault breakpoint vector=3 region=code side=inside
.include "muscle.inc"
begin
    int3
    not_stopped
