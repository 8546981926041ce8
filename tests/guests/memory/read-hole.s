# Rule: an address far from every region is not mapped.
# expect: fault page-fault vector=14 error=0x4
.include "muscle.inc"
begin
    boot rax, BOOT_IMAGE
    btc rax, 43
    mov rcx, [rax]
    not_stopped
