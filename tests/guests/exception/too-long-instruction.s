# Rule: an instruction of more than 15 bytes raises #GP.
# expect: fault general-protection vector=13 error=0x0
.include "muscle.inc"
begin
    .fill 15, 1, 0x66
    nop
    not_stopped
