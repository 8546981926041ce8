# Rule: a reactor that parks without an answer owes it for ever.
# expect: fault parked-for-ever
# style: reactor
# exports: f
# call: f []
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    expect_frame KIND_CALL
    ring PARK, 0
    not_stopped
channel
