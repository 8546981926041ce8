# Rule: a chain may not run in a circle.
# expect: fault channel message="circle"
.include "muscle.inc"
.include "channel.inc"
begin
    packet REQUEST, RPC_PORT
    descriptor TX, 0, OUT, HEADER, DESC_NEXT, 0
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
