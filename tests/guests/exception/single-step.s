# Rule: the trap flag raises #DB after the next instruction.
# expect: fault debug vector=1 region=code side=inside
.include "muscle.inc"
begin
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
    not_stopped
