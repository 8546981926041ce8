# Rule: an access that only begins in a granted range is not granted.
# expect: fault port message="write of 4 bytes at I/O port 0x3ff"
# slots: serial=pio:0x3f8-0x3ff
# bind: serial=serial:stdout
.include "muscle.inc"
begin
    mov dx, 0x3ff
    out dx, eax
    not_stopped
