# Rule: a packet with an operation that does not exist ends its connection.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    send 9, RPC_PORT
    expect RESET
    exit 0
channel
