# Rule: a doorbell takes stores of 8 bytes.
# expect: fault doorbell message="store of 1 bytes"
.include "muscle.inc"
begin
    mov byte ptr [r13 + EXIT], 0
    not_stopped
