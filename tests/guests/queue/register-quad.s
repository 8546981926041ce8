# Rule: registers take accesses of 4 bytes.
# expect: fault channel message="accessed with 8 bytes"
.include "muscle.inc"
.include "channel.inc"
begin
    mov [r14 + 0x70], rax
    not_stopped
channel
