# Rule: a time that no clock reaches does not confuse the host.
# expect: fault deadline
# slots: clock=clock:coarse
# limits: deadline_ms=300
.include "muscle.inc"
begin
    ring PARK, -1
    not_stopped
