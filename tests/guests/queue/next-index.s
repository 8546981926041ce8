# Rule: the next descriptor of a chain must be one of the queue.
# expect: fault channel message="descriptor 200 does not exist"
.include "muscle.inc"
.include "channel.inc"
begin
    packet REQUEST, RPC_PORT
    descriptor TX, 0, OUT, HEADER, DESC_NEXT, 200
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
