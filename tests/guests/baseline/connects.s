# Breaks no rule: connects to the RPC port over the prepared queues.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    exit 0
channel
