# Rule: vector 4 is no gate of ring 3: #GP with the gate's selector; KVM-PVM, whose own table has one, says #OF.
# expect: fault overflow vector=4
# expect-npt: fault general-protection vector=13 error=0x22
# expect-tcg: fault general-protection vector=13 error=0x42
.include "muscle.inc"
begin
    int 4
    not_stopped
