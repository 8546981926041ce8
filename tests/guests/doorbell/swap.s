# Rule: a doorbell cannot be swapped with: that reads it.
# expect: fault doorbell
.include "muscle.inc"
begin
    xchg [r13 + YIELD], rax
    not_stopped
