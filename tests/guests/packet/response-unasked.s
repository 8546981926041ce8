# Rule: an answer that nobody asked for is answered with a reset.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    send RESPONSE, RPC_PORT
    expect RESET
    exit 0
channel
