# Rule: the page of an index cannot be executed.
# expect: fault page-fault vector=14 error=0x15 region=ring-writable side=inside
# slots: ring=ring:receive:4096
.include "muscle.inc"
begin
    ring_base 0
    mov byte ptr [rdi], 0xc3
    call rdi
    not_stopped
