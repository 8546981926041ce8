# Rule: a packet cannot carry more than its chain has.
# expect: fault channel message="claims 4294967295 bytes"
.include "muscle.inc"
.include "channel.inc"
begin
    packet DATA, RPC_PORT, -1
    transmit
    not_stopped
channel
