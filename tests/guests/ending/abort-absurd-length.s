# Rule: a message's length is no address arithmetic.
# expect: fault aborted
.include "muscle.inc"
begin
    ring ABORT, -1
    not_stopped
