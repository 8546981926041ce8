# Rule: the page above the image is a guard.
# expect: fault page-fault vector=14 error=0x6 region=data side=above distance=1
.include "muscle.inc"
begin
    boot rax, BOOT_IMAGE
    add rax, [rbx + BOOT_IMAGE_LEN]
    mov [rax], rax
    not_stopped
