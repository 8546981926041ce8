# Rule: an exception is reported whatever the flags are.
# expect: fault invalid-opcode vector=6 region=code side=inside
.include "muscle.inc"
begin
    pushfq
    or dword ptr [rsp], 0x244cd5
    popfq
    ud2
    not_stopped
