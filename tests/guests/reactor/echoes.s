# Breaks no rule: answers every call with the call's own arguments, as long as they fit into one packet, and counts in
# its data how many it has answered: the function `count` answers with that.
# expect: exit 0
# style: reactor
# exports: count echo
# call: echo [1]
# stdout: [1]\n
.include "muscle.inc"
.include "channel.inc"
.equ FRAME_HEADER, 24
begin
    connect
next:
    expect DATA
    add rsi, HEADER
    cmp byte ptr [rsi + 8], KIND_CALL
    jne 9f
    # The header of the answer: the payload's length, the call's id, Return.
    mov edx, [rsi]
    movzx ecx, byte ptr [rsi + 9]
    sub edx, ecx
    mov eax, [rsi + 4]
    mov [r12 + BODY + 4], eax
    mov dword ptr [r12 + BODY + 8], 1
    mov dword ptr [r12 + BODY + 12], 0
    mov qword ptr [r12 + BODY + 16], 0
    lea rsi, [rsi + FRAME_HEADER]
    cmp byte ptr [rsi], 'c'
    je 1f
    add rsi, rcx
    mov ecx, edx
    jmp 2f
    # The count as a CBOR integer of four bytes.
1:  mov eax, [rip + answered]
    bswap eax
    mov [rip + counted + 1], eax
    lea rsi, [rip + counted]
    mov edx, 5
    mov ecx, edx
2:  mov [r12 + BODY], edx
    lea rdi, [r12 + BODY + FRAME_HEADER]
    rep movsb
    inc dword ptr [rip + answered]
    lea r8d, [edx + FRAME_HEADER]
    packet DATA, RPC_PORT, 0
    mov [r12 + OUT + 24], r8d
    descriptor TX, 0, OUT, HEADER
    add r8d, HEADER
    mov [r12 + TX + 8], r8d
    offer TX, 0
    ring PARK, 0
    jmp next
9:  exit CODE_WRONG_ANSWER
channel
    .data
answered:
    .long 0
counted:
    .byte 0x1a
    .long 0
    .text
