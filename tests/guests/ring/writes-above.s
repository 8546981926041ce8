# Rule: there is a guard behind a ring.
# expect: fault page-fault vector=14 error=0x6 region=ring-writable side=above distance=1
# slots: ring=ring:send:4096
.include "muscle.inc"
begin
    ring_base 0
    mov [rdi + RING_DATA + 4096], rax
    not_stopped
