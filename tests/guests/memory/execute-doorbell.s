# Rule: a doorbell cannot be executed.
# expect: fault page-fault vector=14 error=0x15 region=control-doorbell side=inside
.include "muscle.inc"
begin
    call r13
    not_stopped
