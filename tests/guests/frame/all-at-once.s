# Rule: as many calls as fit are answered one by one, none is lost.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    .long 4, 1
    .byte 0, 4, 0, 0
    .long 0
    .quad 0
    .ascii "name"
frame_end:
begin
    connect
    lea rdi, [r12 + BODY]
    mov edx, 400
1:  lea rsi, [rip + frame]
    mov ecx, (frame_end - frame)
    rep movsb
    dec edx
    jnz 1b
    send DATA, RPC_PORT, (400 * (frame_end - frame))
    xor ebp, ebp
    xor r15d, r15d
2:  expect DATA
    add ebp, [rsi + 24]
    test r15d, r15d
    jnz 4f
    mov r15d, [rsi + HEADER]
    add r15d, 24
    imul r15d, r15d, 400
4:  cmp ebp, r15d
    jb 2b
    je 3f
    exit CODE_WRONG_ANSWER
3:  exit 0
channel
