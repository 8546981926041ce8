# Rule: a syscall whose next instruction lies on another page is named like any other.
# expect: fault syscall region=code side=inside
.include "muscle.inc"
begin
    jmp 1f
    .balign 4096
    .fill 4094, 1, 0x90
1:  syscall
    not_stopped
