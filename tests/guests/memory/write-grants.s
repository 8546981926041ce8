# Rule: the table of grants cannot be written, so no handle can be put there.
# expect: fault page-fault vector=14 error=0x7 region=boot side=inside
.include "muscle.inc"
begin
    boot rcx, BOOT_GRANTS
    mov [rcx], rax
    not_stopped
