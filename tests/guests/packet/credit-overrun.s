# Rule: a muscle that sends more than its credit loses the connection.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    packet DATA, RPC_PORT, 0x40001
    transmit 0x40001
    expect RESET
    exit 0
channel
