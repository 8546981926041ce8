# Rule: what a muscle posted before it misuses the device is carried.
# expect: fault channel message="no register at 0x200"
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    mov eax, [r14 + 0x200]
    not_stopped
channel
