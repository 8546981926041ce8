# Rule: what a muscle posted before it exits is carried.
# expect: exit 7
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    exit 7
channel
