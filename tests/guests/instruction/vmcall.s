# Rule: there is no hypervisor to call.
# expect: fault invalid-opcode vector=6
.include "muscle.inc"
begin
    mov eax, 1
    vmcall
    not_stopped
