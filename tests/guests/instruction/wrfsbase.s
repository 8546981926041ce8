# Rule: segment bases are the VMM's, where the processor can deny them.
# expect: exit 99
# expect-npt: fault invalid-opcode vector=6
.include "muscle.inc"
begin
    .byte 0xf3, 0x48, 0x0f, 0xae, 0xd0
    not_stopped
