# Rule: a packet to everybody is answered with a reset.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    packet REQUEST, RPC_PORT
    mov rax, 0xffffffff
    mov [r12 + OUT + 8], rax
    transmit
    expect RESET
    exit 0
channel
