# Rule: code that runs off its end does not run on into what lies behind it.
# expect: fault page-fault vector=14 error=0x15 region=constants side=inside
.include "muscle.inc"
begin
    jmp 1f
    .balign 4096
    .fill 4095, 1, 0x90
1:  nop
