# Rule: no enclave can be entered.
# expect: fault any-of=general-protection,invalid-opcode
.include "muscle.inc"
begin
    mov eax, 2
    .byte 0x0f, 0x01, 0xd7
    not_stopped
