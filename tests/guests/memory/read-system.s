# Rule: the upper half, where the system pages lie at a random place, is not ring 3's. (KVM-PVM keeps its own pages there
# and sometimes sets the error code's bit for reserved bits.)
# expect: fault page-fault vector=14 address=0xffff800000000000
.include "muscle.inc"
begin
    mov rax, 0xffff800000000000
    mov rcx, [rax]
    not_stopped
