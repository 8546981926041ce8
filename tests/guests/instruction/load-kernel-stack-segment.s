# Rule: ring 0's data segment is no stack of ring 3: #GP with the selector.
# expect: fault general-protection vector=13 error=0x10 region=code side=inside
.include "muscle.inc"
begin
    mov eax, 0x10
    mov ss, ax
    not_stopped
