# Rule: there is no local segment table: #GP with the selector.
# expect: fault general-protection vector=13 error=0x4 region=code side=inside
.include "muscle.inc"
begin
    mov eax, 0x7
    mov ds, ax
    not_stopped
