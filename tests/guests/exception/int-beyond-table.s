# Rule: a vector beyond the interrupt table raises #GP with its selector.
# expect: fault invalid-opcode vector=6
# expect-npt: fault general-protection vector=13 error=0x10a
# expect-tcg: fault general-protection vector=13 error=0x212
.include "muscle.inc"
begin
    int 33
    not_stopped
