# Rule: ring 3 cannot return from a kernel.
# expect: fault any-of=general-protection,invalid-opcode region=code side=inside
.include "muscle.inc"
begin
    sysexitd
    not_stopped
