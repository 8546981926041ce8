# Rule: the device touches the window and the heap, not what another cell reads or writes.
# expect: fault channel message="outside the device's memory"
# slots: ring=ring:send:4096
.include "muscle.inc"
.include "channel.inc"
begin
    mov rax, RING_GPA + 0x3000
    descriptor_at TX, 0, HEADER
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
