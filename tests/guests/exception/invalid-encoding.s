# Rule: an opcode that 64-bit mode does not have raises #UD.
# expect: fault invalid-opcode vector=6 region=code side=inside
.include "muscle.inc"
begin
    .byte 0x06
    not_stopped
