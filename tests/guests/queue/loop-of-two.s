# Rule: a chain may not run in a circle.
# expect: fault channel message="circle"
.include "muscle.inc"
.include "channel.inc"
begin
    packet REQUEST, RPC_PORT
    descriptor TX, 0, OUT, 20, DESC_NEXT, 1
    descriptor TX, 1, (OUT + 20), 24, DESC_NEXT, 0
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
