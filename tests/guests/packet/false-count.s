# Rule: a muscle that says it took more bytes than were sent loses the connection.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    packet DATA, RPC_PORT, 0
    mov dword ptr [r12 + OUT + 40], 1000
    transmit
    expect RESET
    exit 0
channel
