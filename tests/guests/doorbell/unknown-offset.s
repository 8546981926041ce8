# Rule: only the doorbells that the ABI names may be rung.
# expect: fault doorbell message="0x28"
.include "muscle.inc"
begin
    mov [r13 + 0x28], rax
    not_stopped
