# Rule: the device touches the window and the heap, not the image.
# expect: fault channel message="outside the device's memory"
.include "muscle.inc"
.include "channel.inc"
begin
    image_gpa
    descriptor_at TX, 0, HEADER
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
