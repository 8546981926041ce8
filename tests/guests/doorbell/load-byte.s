# Rule: a doorbell cannot be read.
# expect: fault doorbell message="load of 1 bytes"
.include "muscle.inc"
begin
    mov al, [r13 + YIELD]
    not_stopped
