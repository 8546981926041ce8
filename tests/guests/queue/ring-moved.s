# Rule: a queue cannot be moved while it is in use.
# expect: fault channel message="while the queue was ready"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x30, 1
    image_gpa
    mov [r14 + 0x80], eax
    not_stopped
channel
