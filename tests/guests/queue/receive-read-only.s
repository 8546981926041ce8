# Rule: a descriptor in the receive queue is the device's to write.
# expect: fault channel message="read-only"
.include "muscle.inc"
.include "channel.inc"
begin
    descriptor RX, 0, IN, 4096
    offer RX, 0
    send REQUEST, RPC_PORT
    not_stopped
channel
