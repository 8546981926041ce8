# Rule: there is no hypervisor to call. Where the processor lets the instruction through, it does nothing.
# expect: fault any-of=general-protection,invalid-opcode,page-fault region=code side=inside
# expect: exit 99
.include "muscle.inc"
begin
    mov eax, 1
    vmcall
    not_stopped
