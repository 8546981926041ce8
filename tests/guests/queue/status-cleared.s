# Rule: status bits are not cleared without a reset.
# expect: fault channel message="without a reset"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x70, 7
    not_stopped
channel
