# Rule: the device does not write where the image is.
# expect: fault channel message="outside the device's memory"
.include "muscle.inc"
.include "channel.inc"
begin
    image_gpa
    descriptor_at RX, 0, 4096, DESC_WRITE
    offer RX, 0
    send REQUEST, RPC_PORT
    not_stopped
channel
