# Rule: no port may be written without a grant.
# expect: fault port message="write of 2 bytes at I/O port 0xcf8"
.include "muscle.inc"
begin
    mov dx, 0xcf8
    out dx, ax
    not_stopped
