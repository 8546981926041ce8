# Rule: the boot block cannot be written.
# expect: fault page-fault vector=14 error=0x7 region=boot side=inside
.include "muscle.inc"
begin
    mov [rbx], rax
    not_stopped
