# Rule: the device touches the window and the heap, not what another cell reads or writes.
# expect: fault channel message="outside the device's memory"
# slots: ring=ring:receive:4096
.include "muscle.inc"
.include "channel.inc"
begin
    mov rax, RING_GPA
    descriptor_at RX, 0, 4096, DESC_WRITE
    offer RX, 0
    send REQUEST, RPC_PORT
    not_stopped
channel
