# Rule: what a muscle posted before a `syscall` is carried.
# expect: fault syscall
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    syscall
    not_stopped
channel
