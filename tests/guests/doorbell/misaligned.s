# Rule: a doorbell takes aligned stores.
# expect: fault doorbell message="0x9"
.include "muscle.inc"
begin
    mov [r13 + EXIT + 1], rax
    not_stopped
