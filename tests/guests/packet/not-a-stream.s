# Rule: a packet of another type of socket is answered with a reset.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    packet REQUEST, RPC_PORT
    mov word ptr [r12 + OUT + 28], 2
    transmit
    expect RESET
    exit 0
channel
