# Rule: there is no system management mode to return from.
# expect: fault invalid-opcode vector=6 region=code side=inside
.include "muscle.inc"
begin
    .byte 0x0f, 0xaa
    not_stopped
