# Rule: an unmasked SSE exception raises #XM.
# expect: fault simd-floating-point vector=19 region=code side=inside
# expect-tcg: exit 99
.include "muscle.inc"
begin
    push 0x1d80
    ldmxcsr [rsp]
    push 1
    cvtsi2ss xmm0, dword ptr [rsp]
    xorps xmm1, xmm1
    divss xmm0, xmm1
    not_stopped
