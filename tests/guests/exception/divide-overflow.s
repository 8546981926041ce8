# Rule: a quotient that does not fit raises #DE.
# expect: fault divide-error vector=0 region=code side=inside
.include "muscle.inc"
begin
    mov eax, 1
    mov edx, 1
    mov ecx, 1
    div ecx
    not_stopped
