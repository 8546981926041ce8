# Breaks no rule: takes 90 MiB of heap, writes to all of it, and answers a call with null.
# expect: exit 0
# style: reactor
# exports: f
# limits: memory=100663296
# call: f []
# stdout: null\n
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
    expect_frame KIND_CALL
    mov r8d, [rsi + 4]
    ring GROW, 23040
    mov rcx, [r12]
    cmp rcx, [rbx + BOOT_HEAP_LEN]
    ja 1f
    exit CODE_REFUSED
1:  mov rdi, [rbx + BOOT_HEAP]
    shr rcx, 3
    movabs rax, 0x5a5a5a5a5a5a5a5a
    rep stosq
    copy_frame answer, (answer_end - answer)
    mov [r12 + BODY + 4], r8d
    send DATA, RPC_PORT, (answer_end - answer)
    ring PARK, 0
    exit CODE_NOT_STOPPED
channel
