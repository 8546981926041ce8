# Rule: a device that the driver gave up takes no packets any more.
# expect: fault parked-for-ever
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x70, 0x8f
    call post_buffers
    send REQUEST, RPC_PORT
    expect RESPONSE
channel
