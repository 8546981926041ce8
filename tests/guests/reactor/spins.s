# Rule: a function that never comes back is stopped by the deadline.
# expect: fault deadline
# style: reactor
# exports: f
# call: f []
# limits: deadline_ms=200
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    expect_frame KIND_CALL
1:  jmp 1b
channel
