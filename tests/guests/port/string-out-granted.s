# Rule: string output is not granted, even to a granted port.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
# slots: serial=pio:0x3f8-0x3ff
# bind: serial=serial:stdout
.include "muscle.inc"
begin
    mov dx, 0x3f8
    mov rsi, r12
    outsb
    not_stopped
