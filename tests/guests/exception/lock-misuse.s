# Rule: a lock prefix on an instruction that takes none raises #UD.
# expect: fault invalid-opcode vector=6
# expect-tcg: exit 99
.include "muscle.inc"
begin
    .byte 0xf0, 0x89, 0xc8
    not_stopped
