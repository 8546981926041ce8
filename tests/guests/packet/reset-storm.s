# Rule: ten thousand resets to nobody cost nothing and are never answered; an honest request still is.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    mov r15d, 10000
1:  send RESET, 3000
    dec r15d
    jnz 1b
    send REQUEST, RPC_PORT
    expect RESPONSE
    exit 0
channel
