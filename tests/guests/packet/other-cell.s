# Rule: a packet to another cell is answered with a reset.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    packet REQUEST, RPC_PORT
    inc qword ptr [r12 + OUT + 8]
    transmit
    expect RESET
    exit 0
channel
