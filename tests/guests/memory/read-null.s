# Rule: nothing is mapped at address 0.
# expect: fault page-fault vector=14 error=0x4 address=0x0 side=below
.include "muscle.inc"
begin
    xor eax, eax
    mov rcx, [rax]
    not_stopped
