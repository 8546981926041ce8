# Rule: a doorbell cannot be read.
# expect: fault doorbell message="load of 8 bytes"
.include "muscle.inc"
begin
    mov rax, [r13 + EXIT]
    not_stopped
