# Rule: the doorbells of a ring are stores.
# expect: fault doorbell
# slots: ring=ring:send:4096
.include "muscle.inc"
begin
    ring_base 0
    mov rax, [r13 + RING_WAIT]
    not_stopped
