# Rule: what a muscle asks for in its start-up is asked in each life. Uses a handle that it has not got, then answers every call with null.
# expect: exit 0
# style: reactor
# exports: f
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
ask:
    call_frame 1, "console.out", ask_end
    .byte 0x81, 0x41, 0x20
ask_end:
begin
    connect
    mov rax, 7
    call_host ask, (ask_end - ask)
    # The refusal may come before or after the first call.
next:
    expect DATA
    add rsi, HEADER
    cmp byte ptr [rsi + 8], KIND_CALL
    jne next
    mov r8d, [rsi + 4]
    copy_frame answer, (answer_end - answer)
    mov [r12 + BODY + 4], r8d
    packet DATA, RPC_PORT, (answer_end - answer)
    descriptor TX, 0, OUT, (HEADER + answer_end - answer)
    offer TX, 0
    ring PARK, 0
    jmp next
channel
