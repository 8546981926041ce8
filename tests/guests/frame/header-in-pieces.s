# Rule: a frame may come byte by byte, and is checked all the same.
# expect: fault frame message="unknown kind 9"
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 4, 1
    .byte 9, 4, 0, 0
    .long 0
    .quad 0
    .ascii "name"
frame_end:
begin
    connect
    xor ebp, ebp
1:  lea rsi, [rip + frame]
    mov al, [rsi + rbp]
    mov [r12 + BODY], al
    send DATA, RPC_PORT, 1
    inc ebp
    cmp ebp, 24
    jne 1b
    not_stopped
channel
