# Rule: what a muscle posted before an exception is carried, once, and is no way to go on.
# expect: fault invalid-opcode vector=6
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    ud2
    not_stopped
channel
