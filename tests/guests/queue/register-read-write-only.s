# Rule: a write-only register cannot be read.
# expect: fault channel message="write-only and was read"
.include "muscle.inc"
.include "channel.inc"
begin
    mov eax, [r14 + 0x50]
    not_stopped
channel
