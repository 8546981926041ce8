# Rule: an exception raised again and again is reported the first time; the cell does not run on.
# expect: fault breakpoint vector=3
.include "muscle.inc"
begin
1:  int3
    jmp 1b
    not_stopped
