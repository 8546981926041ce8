# Rule: indirect descriptors were not negotiated.
# expect: fault channel message="flags 0x4"
.include "muscle.inc"
.include "channel.inc"
begin
    packet REQUEST, RPC_PORT
    descriptor TX, 0, OUT, HEADER, 4
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
