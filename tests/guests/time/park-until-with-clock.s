# Rule: with a clock grant a muscle may wait for a time, and is woken then.
# expect: exit 0
# slots: clock=clock:coarse
.include "muscle.inc"
begin
    ring PARK, 1000000
    exit 0
