# Rule: the page below the control doorbells is a guard.
# expect: fault page-fault vector=14 error=0x4 region=control-doorbell side=below distance=8
.include "muscle.inc"
begin
    mov rax, r13
    mov rcx, [rax - 8]
    not_stopped
