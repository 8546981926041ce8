# Rule: a muscle may give up without a word.
# expect: fault aborted
.include "muscle.inc"
begin
    ring ABORT, 0
    not_stopped
