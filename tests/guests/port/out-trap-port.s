# Rule: a write to the port of a trap stub from ring 3 is no trap: it cannot forge an exception.
# expect: fault port message="0xc6"
.include "muscle.inc"
begin
    out 0xc6, al
    not_stopped
