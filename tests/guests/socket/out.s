# Rule: a muscle reaches the program that listens at its slot's socket, and bytes go both ways; where none listens, it
# is refused with a reset. Only the command line's tests have a program there, which hears `ping` and says `pong`.
# expect: exit 97
# slots: out=connect:2000
# bind: out=unix:{}/out
# socket: out
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
ping:
    .ascii "ping"
begin
    connect 2000
    copy_frame ping, 4
    send DATA, 2000, 4
    expect DATA
    cmp dword ptr [rsi + 24], 4
    jne 1f
    cmp dword ptr [rsi + HEADER], 0x676e6f70
    jne 1f
    exit 7
1:  exit CODE_WRONG_ANSWER
channel
