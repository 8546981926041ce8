# Rule: an exception is reported whatever the stack pointer is: ring 0 has a stack of its own.
# expect: fault invalid-opcode vector=6 region=code side=inside
.include "muscle.inc"
begin
    xor esp, esp
    ud2
    not_stopped
