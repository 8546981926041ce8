# Rule: a packet cannot carry more than its chain has.
# expect: fault channel message="claims 1000 bytes"
.include "muscle.inc"
.include "channel.inc"
begin
    packet DATA, RPC_PORT, 1000
    transmit 10
    not_stopped
channel
