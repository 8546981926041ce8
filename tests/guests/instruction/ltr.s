# Rule: the task register cannot be loaded.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    mov eax, 0x28
    ltr ax
    not_stopped
