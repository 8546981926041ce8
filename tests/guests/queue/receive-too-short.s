# Rule: a receive buffer holds at least a header and a byte.
# expect: fault channel message="has 44 bytes"
.include "muscle.inc"
.include "channel.inc"
begin
    descriptor RX, 0, IN, HEADER, DESC_WRITE
    offer RX, 0
    send REQUEST, RPC_PORT
    not_stopped
channel
