# Rule: a packet with an operation that does not exist, to no connection, is answered with a reset.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    send 0, 3000
    expect RESET
    exit 0
channel
