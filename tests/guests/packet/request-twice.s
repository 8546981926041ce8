# Rule: a request on a connection that exists ends it; a new one can be made.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    send REQUEST, RPC_PORT
    expect RESET
    send REQUEST, RPC_PORT
    expect RESPONSE
    exit 0
channel
