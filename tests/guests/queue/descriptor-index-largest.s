# Rule: the head of a chain must be a descriptor of the queue.
# expect: fault channel message="descriptor 65535 does not exist"
.include "muscle.inc"
.include "channel.inc"
begin
    packet REQUEST, RPC_PORT
    offer TX, 65535
    ring YIELD, 0
    not_stopped
channel
