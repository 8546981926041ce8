# Rule: a packet has at least a header.
# expect: fault channel message="has 0 bytes"
.include "muscle.inc"
.include "channel.inc"
begin
    descriptor TX, 0, OUT, 0
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
