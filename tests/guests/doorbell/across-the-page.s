# Rule: a store that runs out of the doorbell page hits the guard.
# expect: fault page-fault vector=14 error=0x6 region=control-doorbell side=above distance=1
.include "muscle.inc"
begin
    mov [r13 + 0xffc], rax
    not_stopped
