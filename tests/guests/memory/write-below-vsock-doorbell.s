# Rule: the page below the vsock device's registers is a guard.
# expect: fault page-fault vector=14 error=0x6 region=vsock-doorbell side=below distance=8
.include "muscle.inc"
begin
    mov rax, r14
    mov [rax - 8], rcx
    not_stopped
