# Rule: a cell has no kernel to enter.
# expect: fault any-of=general-protection,invalid-opcode region=code side=inside
.include "muscle.inc"
begin
    sysenter
    not_stopped
