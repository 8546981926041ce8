# Rule: the page above the control doorbells is a guard.
# expect: fault page-fault vector=14 error=0x4 region=control-doorbell side=above distance=1
.include "muscle.inc"
begin
    lea rax, [r13 + 0x1000]
    mov rcx, [rax]
    not_stopped
