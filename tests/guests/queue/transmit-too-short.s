# Rule: a packet has at least a header.
# expect: fault channel message="44 are needed"
.include "muscle.inc"
.include "channel.inc"
begin
    packet REQUEST, RPC_PORT
    descriptor TX, 0, OUT, 43
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
