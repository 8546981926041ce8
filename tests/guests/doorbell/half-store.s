# Rule: a doorbell takes stores of 8 bytes.
# expect: fault doorbell message="store of 4 bytes"
.include "muscle.inc"
begin
    mov dword ptr [r13 + EXIT], 0
    not_stopped
