# Rule: a push into a doorbell is a store like any other.
# expect: exit 7
.include "muscle.inc"
begin
    lea rsp, [r13 + EXIT + 8]
    push 7
    not_stopped
