# Rule: only the doorbells that the ABI names may be rung.
# expect: fault doorbell message="0xff8"
.include "muscle.inc"
begin
    mov [r13 + 0xff8], rax
    not_stopped
