# Rule: data cannot be executed.
# expect: fault page-fault vector=14 error=0x15 region=data side=inside
.include "muscle.inc"
    .data
shellcode:
    .byte 0xc3
begin
    lea rax, [rip + shellcode]
    call rax
    not_stopped
