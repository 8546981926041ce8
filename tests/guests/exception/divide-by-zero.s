# Rule: dividing by zero raises #DE.
# expect: fault divide-error vector=0 region=code side=inside
.include "muscle.inc"
begin
    xor ecx, ecx
    div ecx
    not_stopped
