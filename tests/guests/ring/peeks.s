# Breaks no rule: looks what lies in the data, and exits with its first byte.
# expect: exit 0
# slots: ring=ring:receive:4096
.include "muscle.inc"
begin
    ring_base 0
    movzx eax, byte ptr [rdi + RING_DATA]
    exit rax
