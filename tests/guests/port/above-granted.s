# Rule: the port above a granted range is not granted.
# expect: fault port message="0x400"
# slots: serial=pio:0x3f8-0x3ff
# bind: serial=serial:stdout
.include "muscle.inc"
begin
    mov dx, 0x400
    out dx, al
    not_stopped
