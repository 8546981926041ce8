# Rule: an unmasked x87 exception raises #MF at the next x87 instruction.
# expect: fault x87-floating-point vector=16 region=code side=inside
.include "muscle.inc"
begin
    fninit
    push 0x33b
    fldcw [rsp]
    fld1
    fldz
    fdivp
    fwait
    not_stopped
