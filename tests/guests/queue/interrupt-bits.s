# Rule: only interrupts that exist are acknowledged.
# expect: fault channel message="interrupt bits 0x4"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x64, 4
    not_stopped
channel
