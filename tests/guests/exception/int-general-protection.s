# Rule: an exception's vector cannot be called with a forged frame: #GP with the gate's selector.
# expect: fault invalid-opcode vector=6
# expect-npt: fault general-protection vector=13 error=0x6a
# expect-tcg: fault general-protection vector=13 error=0xd2
.include "muscle.inc"
begin
    push 0
    int 13
    not_stopped
