# Rule: vector 4 is no gate of ring 3: #GP with the gate's selector.
# expect: fault general-protection vector=13 error=0x22
.include "muscle.inc"
begin
    int 4
    not_stopped
