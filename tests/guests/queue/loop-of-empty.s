# Rule: a circle of empty descriptors is a circle.
# expect: fault channel message="circle"
.include "muscle.inc"
.include "channel.inc"
begin
    descriptor TX, 0, OUT, 0, DESC_NEXT, 0
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
