# Breaks no rule: at entry the vector registers hold nothing of the host.
# expect: exit 0
.include "muscle.inc"
begin
    xor edx, edx
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movq rax, xmm\n
    or rdx, rax
    movhlps xmm0, xmm\n
    movq rax, xmm0
    or rdx, rax
    .endr
    test rdx, rdx
    jnz 1f
    exit 0
1:  exit CODE_WRONG_ANSWER
