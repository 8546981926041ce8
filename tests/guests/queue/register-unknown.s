# Rule: there is no register where the specification has none.
# expect: fault channel message="no register at 0x200"
.include "muscle.inc"
.include "channel.inc"
begin
    mov eax, [r14 + 0x200]
    not_stopped
channel
