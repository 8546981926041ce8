# Rule: the device touches the window and the heap, not boot pages and stack.
# expect: fault channel message="outside the device's memory"
.include "muscle.inc"
.include "channel.inc"
begin
    boot_gpa
    descriptor_at TX, 0, HEADER
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
