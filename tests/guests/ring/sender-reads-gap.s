# Rule: there is a guard between the parts of a ring.
# expect: fault page-fault vector=14 error=0x4
# slots: ring=ring:send:4096
.include "muscle.inc"
begin
    ring_base 0
    mov rax, [rdi + SENDER_GAP + 2048]
    not_stopped
