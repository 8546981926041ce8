# Rule: a muscle that waits for what cannot come is ended.
# expect: fault parked-for-ever
.include "muscle.inc"
begin
1:  ring PARK, 0
    jmp 1b
