# Rule: a program outside reaches a granted port through its socket, bytes go both ways, and each side ends its own
# direction; when none comes, waiting ends with the deadline. Only the command line's tests send a program, which says
# `ping` and hears `pong`, and then the end.
# expect: fault deadline
# slots: door=listen:2000
# bind: door=unix:{}/dir/door
# files: dir/inside=text
# limits: deadline_ms=20000
# run: --deadline-ms 300
.include "muscle.inc"
.include "channel.inc"
.equ DOOR_PORT, 2000
    .section .rodata
pong:
    .ascii "pong"
.equ SENDS_NO_MORE, 2
# Sends to the program, whose port is in r15d.
.macro reply op, length=0, flags=0
    packet \op, 0, \length
    mov dword ptr [r12 + OUT + 32], \flags
    mov dword ptr [r12 + OUT + 16], DOOR_PORT
    mov [r12 + OUT + 20], r15d
    transmit \length
.endm
begin
    call post_buffers
    expect REQUEST
    cmp dword ptr [rsi + 20], DOOR_PORT
    jne 1f
    mov r15d, [rsi + 16]
    reply RESPONSE
    expect DATA
    cmp dword ptr [rsi + 24], 4
    jne 1f
    cmp dword ptr [rsi + HEADER], 0x676e6970
    jne 1f
    copy_frame pong, 4
    reply DATA, 4
    reply SHUTDOWN, 0, SENDS_NO_MORE
    expect SHUTDOWN
    exit 7
1:  exit CODE_WRONG_ANSWER
channel
