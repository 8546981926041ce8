# Rule: what goes out by a serial port counts towards the limit of output.
# expect: fault output-limit message="64 bytes"
# slots: serial=pio:0x3f8-0x3ff
# bind: serial=serial:stdout
# run: --max-output-bytes 64
# stdout-at-most: 64
.include "muscle.inc"
begin
    mov dx, 0x3f8
    mov al, 'y'
1:  out dx, al
    jmp 1b
