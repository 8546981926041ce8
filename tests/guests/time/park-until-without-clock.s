# Rule: waiting for a time needs a clock grant.
# expect: fault park-without-clock
.include "muscle.inc"
begin
    ring PARK, 1
    not_stopped
