# Rule: a string store rings the doorbells it hits, one after the other, and ends at the first rule it breaks.
# expect: fault doorbell message="0x28"
.include "muscle.inc"
begin
    lea rdi, [r13 + YIELD]
    xor eax, eax
    mov ecx, 8
    rep stosq
    not_stopped
