# Rule: the NMI's vector cannot be called.
# expect: fault invalid-opcode vector=6
# expect-npt: fault general-protection vector=13 error=0x12
# expect-tcg: fault general-protection vector=13 error=0x22
.include "muscle.inc"
begin
    int 2
    not_stopped
