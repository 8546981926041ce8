# Rule: string output is never granted.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    mov dx, 0x3f8
    mov rsi, r12
    mov ecx, 100
    rep outsb
    not_stopped
