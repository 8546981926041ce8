# Makes as many pages of its heap dirty as it is asked for, and answers with null.
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
    ring GROW, 1024
    connect
next:
    expect DATA
    add rsi, HEADER
    mov r8d, [rsi + 4]
    movzx ecx, byte ptr [rsi + 9]
    # The argument: an array of one integer of two bytes.
    movzx ecx, word ptr [rsi + rcx + 24 + 2]
    rol cx, 8
    mov rdi, [rbx + BOOT_HEAP]
1:  sub ecx, 1
    jb 2f
    mov [rdi], rcx
    add rdi, 4096
    jmp 1b
2:  copy_frame answer, (answer_end - answer)
    mov [r12 + BODY + 4], r8d
    packet DATA, RPC_PORT, (answer_end - answer)
    descriptor TX, 0, OUT, (HEADER + answer_end - answer)
    offer TX, 0
    ring PARK, 0
    jmp next
channel
