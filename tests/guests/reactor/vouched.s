# Breaks no rule. Each function is one act, known by its first letter; its arguments are those of the call to the host, and what the host
# answers, good or bad, is the answer, however many packets it takes:
#   evidence  by the slot `speak`     load, keep  by the slot `notes`
# expect: exit 0
# on: node
# style: reactor
# exports: evidence keep load
# slots: notes=state:64 speak=attest
# limits: deadline_ms=50000
.include "muscle.inc"
.include "channel.inc"
.equ NOTES, 0
.equ SPEAK, 1
.equ CHUNK, 1024
.macro on letter, act
    cmp al, \letter
    je \act
.endm
# Calls the host by the handle in rax, with r10d bytes of `message` as the payload.
.macro call_by label, length
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
    ring YIELD, 0
.endm
    .section .rodata
attest_evidence:
    .ascii "attest.evidence"
state_load:
    .ascii "state.load"
state_save:
    .ascii "state.save"
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
    on 'e', evidence
    on 'l', load
    on 'k', keep
broken:
    exit CODE_WRONG_ANSWER
evidence:
    grant SPEAK
    call_by attest_evidence, 15
    jmp relay
load:
    grant NOTES
    call_by state_load, 10
    jmp relay
keep:
    grant NOTES
    call_by state_save, 10
# Gathers the frame of the answer; r9d = how much of it is here.
relay:
    xor r9d, r9d
1:  expect DATA
    mov ecx, [rsi + 24]
    add rsi, HEADER
    lea rdi, [rip + gathered]
    add rdi, r9
    add r9d, ecx
    rep movsb
    mov r11d, [rip + gathered]
    add r11d, FRAME_HEADER
    cmp r9d, r11d
    jb 1b
    # It goes on to the caller as the answer to its call.
    mov eax, [rip + call_id]
    mov [rip + gathered + 4], eax
    mov dword ptr [rip + gathered + 8], KIND_RETURN
    mov dword ptr [rip + gathered + 12], 0
    mov qword ptr [rip + gathered + 16], 0
    xor r9d, r9d
2:  mov r8d, r11d
    sub r8d, r9d
    cmp r8d, CHUNK
    jbe 3f
    mov r8d, CHUNK
3:  lea rsi, [rip + gathered]
    add rsi, r9
    add r9d, r8d
    lea rdi, [r12 + BODY]
    mov ecx, r8d
    rep movsb
    packet DATA, RPC_PORT
    mov [r12 + OUT + 24], r8d
    descriptor TX, 0, OUT, HEADER
    add r8d, HEADER
    mov [r12 + TX + 8], r8d
    offer TX, 0
    cmp r9d, r11d
    je next
    ring YIELD, 0
    jmp 2b
channel
    .data
call_id:
    .long 0
message:
    .fill 2048, 1, 0
    .balign 8
gathered:
    .fill 65536, 1, 0
