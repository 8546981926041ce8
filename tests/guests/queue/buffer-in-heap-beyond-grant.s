# Rule: the device does not touch heap that was not given.
# expect: fault channel message="outside the device's memory"
.include "muscle.inc"
.include "channel.inc"
begin
    mov rax, [rbx + BOOT_HEAP_GPA]
    add rax, [rbx + BOOT_HEAP_LEN]
    descriptor_at TX, 0, HEADER
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
