# Rule: there is no register at the page's end.
# expect: fault channel message="no register at 0xffc"
.include "muscle.inc"
.include "channel.inc"
begin
    mov [r14 + 0xffc], eax
    not_stopped
channel
