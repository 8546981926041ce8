# Rule: no port may be read without a grant.
# expect: fault port message="read of 1 bytes at I/O port 0x60"
.include "muscle.inc"
begin
    in al, 0x60
    not_stopped
