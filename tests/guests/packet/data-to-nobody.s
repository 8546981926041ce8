# Rule: bytes to a connection that does not exist are answered with a reset.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    send DATA, RPC_PORT, 16
    expect RESET
    exit 0
channel
