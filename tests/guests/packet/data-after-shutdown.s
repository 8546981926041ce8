# Rule: bytes after the end of sending lose the connection.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    packet SHUTDOWN, RPC_PORT
    mov dword ptr [r12 + OUT + 32], 3
    transmit
    expect RESET
    send DATA, RPC_PORT, 16
    expect RESET
    exit 0
channel
