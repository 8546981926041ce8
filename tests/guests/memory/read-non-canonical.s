# Rule: an address that is not canonical raises #GP.
# expect: fault general-protection vector=13 error=0x0
.include "muscle.inc"
begin
    mov rax, 0x8000000000000000
    mov rcx, [rax]
    not_stopped
