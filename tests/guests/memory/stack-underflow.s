# Rule: popping more than was pushed runs into the guard above the stack.
# expect: fault page-fault vector=14 error=0x4 region=stack side=above distance=1
.include "muscle.inc"
begin
    pop rax
    not_stopped
