# Rule: the head of a chain must be a descriptor of the queue.
# expect: fault channel message="descriptor 64 does not exist"
.include "muscle.inc"
.include "channel.inc"
begin
    packet REQUEST, RPC_PORT
    offer TX, 64
    ring YIELD, 0
    not_stopped
channel
