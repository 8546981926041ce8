# Rule: there is a guard between the parts of a ring.
# expect: fault page-fault vector=14 error=0x6
# slots: ring=ring:receive:4096
.include "muscle.inc"
begin
    ring_base 0
    mov [rdi + RECEIVER_GAP + 2048], rax
    not_stopped
