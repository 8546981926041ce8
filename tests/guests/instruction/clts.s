# Rule: the task-switched flag cannot be cleared.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    clts
    not_stopped
