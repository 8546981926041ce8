# Rule: a far jump cannot raise the privilege level: #GP with the selector.
# expect: fault general-protection vector=13 error=0x8 region=code side=inside
.include "muscle.inc"
begin
    lea rax, [rip + 1f]
    mov [r12 + 0x4000], rax
    mov word ptr [r12 + 0x4008], 0x8
    .byte 0x49, 0xff, 0xac, 0x24
    .long 0x4000
1:
    not_stopped
