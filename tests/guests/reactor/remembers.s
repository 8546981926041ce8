# Breaks no rule: says by the doorbell READY that it keeps nothing of its boot block, as it does, and then counts its calls in its data:
#   count   answers with how many calls it has answered, in all lives that led to this one
#   time    asks for the time with the handle that it has now, and answers with its monotonic clock in nanoseconds
# expect: exit 0
# style: reactor
# exports: count time
# slots: clock=clock:coarse
# call: count []
# stdout: 0\n
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
now:
    call_frame 1, "clock.now", now_end
    .byte 0x80
now_end:
begin
    connect
wait:
    mov ax, [rip + seen]
    cmp ax, [r12 + RX + USED + 2]
    jne 1f
    ring READY, 0
    jmp wait
1:  expect DATA
    add rsi, HEADER
    cmp byte ptr [rsi + 8], KIND_CALL
    je 1f
    exit CODE_WRONG_ANSWER
1:  mov eax, [rsi + 4]
    mov [rip + call_id], eax
    cmp byte ptr [rsi + FRAME_HEADER], 't'
    je time
    mov eax, [rip + answered]
    jmp answer
time:
    grant 0
    call_host now, (now_end - now)
    expect_frame KIND_RETURN
    # The second number of the answer: as short as it can be.
    mov al, [rsi + FRAME_HEADER + 10]
    cmp al, 0x1b
    je 1f
    cmp al, 0x1a
    je 2f
    xor eax, eax
    jmp answer
1:  mov rax, [rsi + FRAME_HEADER + 11]
    bswap rax
    jmp answer
2:  mov eax, [rsi + FRAME_HEADER + 11]
    bswap eax
# Answers with rax as a CBOR integer of eight bytes.
answer:
    bswap rax
    mov [r12 + BODY + FRAME_HEADER + 1], rax
    mov byte ptr [r12 + BODY + FRAME_HEADER], 0x1b
    mov dword ptr [r12 + BODY], 9
    mov eax, [rip + call_id]
    mov [r12 + BODY + 4], eax
    mov dword ptr [r12 + BODY + 8], KIND_RETURN
    mov dword ptr [r12 + BODY + 12], 0
    mov qword ptr [r12 + BODY + 16], 0
    inc dword ptr [rip + answered]
    packet DATA, RPC_PORT, (FRAME_HEADER + 9)
    descriptor TX, 0, OUT, (HEADER + FRAME_HEADER + 9)
    offer TX, 0
    jmp wait
channel
    .data
call_id:
    .long 0
answered:
    .long 0
