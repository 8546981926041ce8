# Rule: the page below the image is a guard.
# expect: fault page-fault vector=14 error=0x4 region=constants side=below distance=8
.include "muscle.inc"
begin
    boot rax, BOOT_IMAGE
    mov rcx, [rax - 8]
    not_stopped
