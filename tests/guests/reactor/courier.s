# Breaks no rule unless it is asked to. Each function is one act, known by its first letter; the arguments of the first five, [bytes], are
# the message, and what the host answers, good or bad, is the answer:
#   ask    asks by the slot `ask`           forge  sends by a handle that it has not got
#   send   sends by the slot `to`           wrong  sends by the slot `from`, which only takes
#   last   sends by the slot `to` and breaks a rule before it hears what came of it
#   many   sends until it is refused        take   takes a text, whose first letter says what to do with it:
#          e echoes, f faults, r refuses, s spins, p sends it on by `to`, q asks on by `ask`
# expect: exit 0
# on: node
# style: reactor
# exports: ask forge last many send take wrong
# slots: ask=channel:request:1000:1000 from=channel:receive:1000:take to=channel:send:1000:1000
.include "muscle.inc"
.include "channel.inc"
.equ ASK, 0
.equ FROM, 1
.equ TO, 2
.macro on letter, act
    cmp al, \letter
    je \act
.endm
# Posts a call of the host by the handle in rax, with r10d bytes of `message` as the payload.
.macro post_by label, length
    mov r8, rax
    lea rdi, [r12 + BODY]
    lea ecx, [r10d + \length]
    mov [rdi], ecx
    mov dword ptr [rdi + 4], 7
    mov dword ptr [rdi + 8], KIND_CALL | (\length << 8)
    mov dword ptr [rdi + 12], 0
    mov [rdi + 16], r8
    add rdi, FRAME_HEADER
    lea rsi, [rip + \label]
    mov ecx, \length
    rep movsb
    lea rsi, [rip + message]
    mov ecx, r10d
    rep movsb
    lea r8d, [r10d + FRAME_HEADER + \length]
    packet DATA, RPC_PORT
    mov [r12 + OUT + 24], r8d
    descriptor TX, 0, OUT, HEADER
    add r8d, HEADER
    mov [r12 + TX + 8], r8d
    offer TX, 0
.endm
# Calls the host so; rsi = the frame of the answer.
.macro call_by label, length
    post_by \label, \length
    ring YIELD, 0
    expect DATA
    add rsi, HEADER
.endm
    .section .rodata
channel_send:
    .ascii "channel.send"
channel_request:
    .ascii "channel.request"
refusal:
    .byte 0x82, 10, 0x66
    .ascii "not me"
refusal_end:
begin
    connect
next:
    expect DATA
    add rsi, HEADER
    cmp byte ptr [rsi + 8], KIND_CALL
    jne broken
    mov eax, [rsi + 4]
    mov [rip + call_id], eax
    mov al, [rsi + FRAME_HEADER]
    # The arguments, kept where no doorbell changes them.
    mov r10d, [rsi]
    movzx ecx, byte ptr [rsi + 9]
    sub r10d, ecx
    lea rsi, [rsi + FRAME_HEADER + rcx]
    lea rdi, [rip + message]
    mov ecx, r10d
    rep movsb
    on 'a', ask
    on 'f', forge
    on 'l', last
    on 'm', many
    on 's', send_once
    on 't', take
    on 'w', wrong
broken:
    exit CODE_WRONG_ANSWER
ask:
    grant ASK
    call_by channel_request, 15
    jmp relay
forge:
    grant TO
    mov rcx, 0x100000000
    add rax, rcx
    call_by channel_send, 12
    jmp relay
wrong:
    grant FROM
    call_by channel_send, 12
    jmp relay
send_once:
    grant TO
    call_by channel_send, 12
    jmp relay
last:
    grant TO
    post_by channel_send, 12
    ud2
many:
    grant TO
    call_by channel_send, 12
    cmp byte ptr [rsi + 8], KIND_RETURN
    je many
# Answers with the payload of the frame at rsi.
relay:
    mov edx, [rsi]
    lea rsi, [rsi + FRAME_HEADER]
    mov dword ptr [r12 + BODY + 8], KIND_RETURN
# Answers with edx bytes at rsi.
answer:
    mov [r12 + BODY], edx
    mov eax, [rip + call_id]
    mov [r12 + BODY + 4], eax
    mov dword ptr [r12 + BODY + 12], 0
    mov qword ptr [r12 + BODY + 16], 0
    lea rdi, [r12 + BODY + FRAME_HEADER]
    mov ecx, edx
    rep movsb
    lea r8d, [edx + FRAME_HEADER]
    packet DATA, RPC_PORT
    mov [r12 + OUT + 24], r8d
    descriptor TX, 0, OUT, HEADER
    add r8d, HEADER
    mov [r12 + TX + 8], r8d
    offer TX, 0
    ring PARK, 0
    jmp next
take:
    # The first letter stands behind a length of no, one or two bytes of its own.
    lea rdi, [rip + message + 1]
    movzx eax, byte ptr [rdi]
    sub eax, 0x77
    jns 1f
    xor eax, eax
1:  mov al, [rdi + rax + 1]
    on 'e', echo
    on 'f', fault
    on 'p', pass_on
    on 'q', ask_on
    on 'r', refuse
    on 's', .
    jmp broken
echo:
    lea edx, [r10d - 1]
    lea rsi, [rip + message + 1]
    mov dword ptr [r12 + BODY + 8], KIND_RETURN
    jmp answer
fault:
    ud2
refuse:
    lea rsi, [rip + refusal]
    mov edx, offset refusal_end - refusal
    mov dword ptr [r12 + BODY + 8], KIND_ERROR
    jmp answer
pass_on:
    call as_bytes
    grant TO
    call_by channel_send, 12
    jmp relay
ask_on:
    call as_bytes
    grant ASK
    call_by channel_request, 15
    jmp relay
# From [text] to [bytes] that hold the text.
as_bytes:
    lea ecx, [r10d - 1]
    lea rsi, [rip + message + 1]
    lea rdi, [rip + aside]
    rep movsb
    lea ecx, [r10d - 1]
    mov word ptr [rip + message], 0x5881
    mov [rip + message + 2], cl
    lea rsi, [rip + aside]
    lea rdi, [rip + message + 3]
    mov r10d, ecx
    add r10d, 3
    rep movsb
    ret
channel
    .data
call_id:
    .long 0
message:
    .fill 4200, 1, 0
aside:
    .fill 4200, 1, 0
