# Rule: what comes out of a ring cannot be executed.
# expect: fault page-fault vector=14 error=0x15 region=ring-readable side=inside
# slots: ring=ring:receive:4096
.include "muscle.inc"
begin
    ring_base 0
    lea rax, [rdi + RING_DATA]
    call rax
    not_stopped
