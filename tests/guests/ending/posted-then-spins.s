# Rule: what a muscle posted before it spins into its deadline is carried.
# expect: fault deadline
# slots: console=console
# limits: deadline_ms=200
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
1:  jmp 1b
channel
