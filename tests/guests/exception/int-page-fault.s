# Rule: an exception's vector cannot be called with a forged frame: #GP with the gate's selector.
# expect: fault invalid-opcode vector=6
# expect-npt: fault general-protection vector=13 error=0x72
# expect-tcg: fault general-protection vector=13 error=0xe2
.include "muscle.inc"
begin
    push 0
    int 14
    not_stopped
