# Rule: a muscle cannot start a machine.
# expect: fault any-of=general-protection,invalid-opcode
.include "muscle.inc"
begin
    vmlaunch
    not_stopped
