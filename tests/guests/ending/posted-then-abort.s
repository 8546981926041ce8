# Rule: what a muscle posted before it gives up is carried.
# expect: fault aborted
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    ring ABORT, 0
    not_stopped
channel
