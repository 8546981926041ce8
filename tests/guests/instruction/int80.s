# Rule: a cell has no kernel to call.
# expect: fault invalid-opcode vector=6
# expect-npt: fault general-protection vector=13 error=0x402
# expect-tcg: fault general-protection vector=13 error=0x802
.include "muscle.inc"
begin
    mov eax, 1
    int 0x80
    not_stopped
