# Rule: the boot pages cannot be executed.
# expect: fault page-fault vector=14 error=0x15 region=boot side=inside
.include "muscle.inc"
begin
    call rbx
    not_stopped
