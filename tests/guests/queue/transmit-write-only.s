# Rule: a descriptor in the transmit queue is the device's to read.
# expect: fault channel message="write-only"
.include "muscle.inc"
.include "channel.inc"
begin
    packet REQUEST, RPC_PORT
    descriptor TX, 0, OUT, HEADER, DESC_WRITE
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
