# Rule: a port without a grant is refused with a reset, not a fault.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    send REQUEST, 0
    expect RESET
    exit 0
channel
