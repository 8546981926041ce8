# Rule: code cannot be written.
# expect: fault page-fault vector=14 error=0x7 region=code side=inside
.include "muscle.inc"
begin
    lea rax, [rip + _start]
    mov [rax], rax
    not_stopped
    .size _start, . - _start
