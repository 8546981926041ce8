# Rule: there is one RPC connection.
# expect: fault second-rpc-connection
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    packet REQUEST, RPC_PORT
    mov dword ptr [r12 + OUT + 16], 4001
    transmit
    not_stopped
channel
