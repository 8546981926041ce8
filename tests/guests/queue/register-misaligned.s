# Rule: registers take aligned accesses.
# expect: fault channel message="0x72 was accessed"
.include "muscle.inc"
.include "channel.inc"
begin
    mov eax, [r14 + 0x72]
    not_stopped
channel
