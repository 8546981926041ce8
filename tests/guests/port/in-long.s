# Rule: no port may be read without a grant.
# expect: fault port message="read of 4 bytes at I/O port 0xcfc"
.include "muscle.inc"
begin
    mov dx, 0xcfc
    in eax, dx
    not_stopped
