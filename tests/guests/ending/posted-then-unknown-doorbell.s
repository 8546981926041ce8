# Rule: what a muscle posted before it misuses a doorbell is carried.
# expect: fault doorbell message="0x28"
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    mov [r13 + 0x28], rax
    not_stopped
channel
