# Rule: an exception is reported whatever the stack pointer is, even if it is a doorbell, which it must not ring.
# expect: fault invalid-opcode vector=6 region=code side=inside
.include "muscle.inc"
begin
    lea rsp, [r13 + 16]
    ud2
    not_stopped
