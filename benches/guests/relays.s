# Calls a function of the host for each call, and answers with null.
# expect: exit 0
# slots: f=functions:same
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
ask:
    call_frame 1, "functions.call", ask_end
    .byte 0x82, 0x64
    .ascii "same"
    .byte 0x41, 0x07
ask_end:
begin
    connect
next:
    expect DATA
    mov r15d, [rsi + HEADER + 4]
    # In one exit: the call leaves, and its answer is there when the guest goes on.
    grant 0
    call_host ask, (ask_end - ask)
    expect_frame KIND_RETURN
    copy_frame answer, (answer_end - answer)
    mov [r12 + BODY + 4], r15d
    packet DATA, RPC_PORT, (answer_end - answer)
    descriptor TX, 0, OUT, (HEADER + answer_end - answer)
    offer TX, 0
    ring PARK, 0
    jmp next
channel
