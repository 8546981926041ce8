# Rule: a granted port works: the serial port takes a character.
# expect: exit 0
# slots: serial=pio:0x3f8-0x3ff
# bind: serial=serial:stdout
# stdout: A\n
.include "muscle.inc"
begin
    mov dx, 0x3f8
    mov al, 'A'
    out dx, al
    mov al, 10
    out dx, al
    mov dx, 0x3fd
    in al, dx
    test al, 0x20
    jz 1f
    exit 0
1:  exit CODE_WRONG_ANSWER
    not_stopped
