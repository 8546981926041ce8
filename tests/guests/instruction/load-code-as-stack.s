# Rule: a code segment is no stack: #GP with the selector.
# expect: fault general-protection vector=13 error=0x20 region=code side=inside
.include "muscle.inc"
begin
    mov eax, 0x23
    mov ss, ax
    not_stopped
