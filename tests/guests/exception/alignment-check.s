# Rule: with EFLAGS.AC a misaligned access raises #AC.
# expect: fault alignment-check vector=17 error=0x0 region=code side=inside
# expect-tcg: exit 99
.include "muscle.inc"
begin
    pushfq
    or dword ptr [rsp], 0x40000
    popfq
    mov eax, [r12 + 1]
    not_stopped
