# Rule: what can be written to a ring cannot be executed.
# expect: fault page-fault vector=14 error=0x15 region=ring-writable side=inside
# slots: ring=ring:send:4096
.include "muscle.inc"
begin
    ring_base 0
    lea rax, [rdi + RING_DATA]
    mov byte ptr [rax], 0xc3
    call rax
    not_stopped
