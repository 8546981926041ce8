# Rule: the page above the vsock device's registers is a guard.
# expect: fault page-fault vector=14 error=0x4 region=vsock-doorbell side=above distance=1
.include "muscle.inc"
begin
    lea rax, [r14 + 0x1000]
    mov rcx, [rax]
    not_stopped
