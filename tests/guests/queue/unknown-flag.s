# Rule: flags that nobody defined are refused.
# expect: fault channel message="flags 0x8000"
.include "muscle.inc"
.include "channel.inc"
begin
    packet REQUEST, RPC_PORT
    descriptor TX, 0, OUT, HEADER, 0x8000
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
