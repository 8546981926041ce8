# Rule: a packet that claims to come from the host is dropped.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    packet REQUEST, 2000
    mov qword ptr [r12 + OUT + 0], HOST_CID
    transmit
    send REQUEST, RPC_PORT
    expect RESPONSE
    exit 0
channel
