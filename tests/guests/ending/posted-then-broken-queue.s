# Rule: what a muscle posted before something that it may not post is carried.
# expect: fault channel message="outside the device's memory"
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    xor eax, eax
    descriptor_at TX, 1, HEADER
    offer TX, 1
    ring YIELD, 0
    not_stopped
channel
