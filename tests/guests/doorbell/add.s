# Rule: a doorbell cannot be added to: that reads it.
# expect: fault doorbell message="load of 8 bytes"
.include "muscle.inc"
begin
    add qword ptr [r13 + YIELD], 1
    not_stopped
