# Rule: a packet with another cell's CID as its source is dropped; the answer to an honest one comes first.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    packet REQUEST, 2000
    inc qword ptr [r12 + OUT + 0]
    transmit
    send REQUEST, RPC_PORT
    expect RESPONSE
    exit 0
channel
