# Rule: the RPC connection may come from any port.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    send RESET, RPC_PORT
    packet REQUEST, RPC_PORT
    mov dword ptr [r12 + OUT + 16], 0
    transmit
    expect RESPONSE
    exit 0
channel
