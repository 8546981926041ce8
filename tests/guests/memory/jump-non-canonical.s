# Rule: an address that is not canonical cannot be jumped to.
# expect: fault general-protection vector=13 error=0x0
.include "muscle.inc"
begin
    mov rax, 0x0000800000000000
    jmp rax
    not_stopped
