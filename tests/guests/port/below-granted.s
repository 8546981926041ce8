# Rule: the port below a granted range is not granted.
# expect: fault port message="0x3f7"
# slots: serial=pio:0x3f8-0x3ff
# bind: serial=serial:stdout
.include "muscle.inc"
begin
    mov dx, 0x3f7
    in al, dx
    not_stopped
