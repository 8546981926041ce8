# Rule: no enclave can be entered. Where the processor has enclaves, its page is none, which is a page fault (Intel SDM, EENTER).
# expect: fault any-of=general-protection,invalid-opcode,page-fault
.include "muscle.inc"
begin
    mov eax, 2
    .byte 0x0f, 0x01, 0xd7
    not_stopped
