# Rule: recursion without end runs into the guard below the stack, at its first byte.
# expect: fault page-fault vector=14 error=0x6 region=stack side=below distance=8
.include "muscle.inc"
begin
1:  call 1b
    not_stopped
