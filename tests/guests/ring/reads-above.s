# Rule: there is a guard behind a ring.
# expect: fault page-fault vector=14 error=0x4 region=ring-readable side=above distance=1
# slots: ring=ring:receive:4096
.include "muscle.inc"
begin
    ring_base 0
    mov rax, [rdi + RING_DATA + 4096]
    not_stopped
