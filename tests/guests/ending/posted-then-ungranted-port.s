# Rule: what a muscle posted before it uses a port without a grant is carried.
# expect: fault port
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    mov dx, 0x3f8
    in al, dx
    not_stopped
channel
