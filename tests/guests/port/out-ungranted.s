# Rule: no port may be written without a grant.
# expect: fault port message="write of 1 bytes at I/O port 0x80"
.include "muscle.inc"
begin
    out 0x80, al
    not_stopped
