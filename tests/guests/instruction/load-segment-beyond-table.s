# Rule: a selector beyond the segment table raises #GP with it.
# expect: fault general-protection vector=13 error=0x1000 region=code side=inside
.include "muscle.inc"
begin
    mov eax, 0x1003
    mov ds, ax
    not_stopped
