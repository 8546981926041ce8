# Takes arguments of any length, gives credit as it goes, and answers with null.
# expect: exit 0
# limits: memory=8388608
# style: reactor
# exports: f
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
answer:
    .long 1, 0
    .byte 1, 0, 0, 0
    .long 0
    .quad 0
    .byte 0xf6
answer_end:
begin
    connect
    # r15: bytes of the call that are still to come; r10: how many the host knows to be taken.
    xor r15d, r15d
    xor r10d, r10d
next:
    expect DATA
    mov eax, [rsi + 24]
    test r15d, r15d
    jnz 1f
    mov r15d, [rsi + HEADER]
    mov r9d, [rsi + HEADER + 4]
    sub eax, 24
1:  sub r15d, eax
    jz 2f
    mov eax, [rip + forwarded]
    sub eax, r10d
    cmp eax, 0x30000
    jb next
    add r10d, eax
    send CREDIT_UPDATE, RPC_PORT
    jmp next
2:  mov r10d, [rip + forwarded]
    copy_frame answer, (answer_end - answer)
    mov [r12 + BODY + 4], r9d
    packet DATA, RPC_PORT, (answer_end - answer)
    descriptor TX, 0, OUT, (HEADER + answer_end - answer)
    offer TX, 0
    ring PARK, 0
    jmp next
channel
