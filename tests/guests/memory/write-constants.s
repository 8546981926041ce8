# Rule: constants cannot be written.
# expect: fault page-fault vector=14 error=0x7 region=constants side=inside
.include "muscle.inc"
    .section .rodata
constant:
    .quad 42
begin
    mov [rip + constant], rax
    not_stopped
