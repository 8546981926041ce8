# Rule: the rule holds for the receive queue as well, once something is to be put there.
# expect: fault channel message="available index"
.include "muscle.inc"
.include "channel.inc"
begin
    mov word ptr [r12 + RX + AVAILABLE + 2], 1000
    send REQUEST, RPC_PORT
    not_stopped
channel
