# Breaks no rule unless it is asked to. Each function is one act, known by its first letter:
#   arguments  answers with its own arguments          quit    exits with code 3
#   count      how many calls this life has answered   refuse  answers with an error of its own
#   deny       uses a forged handle for ever           spin    never comes back
#   fault      executes an invalid instruction         wait    sleeps for [n] tenths of a second
#   log        prints a line with a control character  yell    prints for ever
# expect: exit 0
# style: reactor
# exports: arguments count deny fault log quit refuse spin wait yell
# slots: clock=clock:coarse console=console
# limits: deadline_ms=50000
# call: count []
# stdout: 0\n
.include "muscle.inc"
.include "channel.inc"
.equ CLOCK, 0
.equ CONSOLE, 1
.macro on letter, act
    cmp al, \letter
    je \act
.endm
# Offers an answer of ecx bytes, header included, that stands at BODY.
.macro offer_answer
    mov r8d, ecx
    mov eax, [rip + call_id]
    mov [r12 + BODY + 4], eax
    packet DATA, RPC_PORT
    mov [r12 + OUT + 24], r8d
    descriptor TX, 0, OUT, HEADER
    add r8d, HEADER
    mov [r12 + TX + 8], r8d
    offer TX, 0
    inc dword ptr [rip + answered]
    ring PARK, 0
    jmp next
.endm
.macro answer label
    copy_frame \label, (\label\()_end - \label)
    mov ecx, \label\()_end - \label
    jmp answer_of_ecx
.endm
    .section .rodata
nothing:
    .long 1, 0
    .byte KIND_RETURN, 0, 0, 0
    .long 0
    .quad 0
    .byte 0xf6
nothing_end:
refusal:
    .long 9, 0
    .byte KIND_ERROR, 0, 0, 0
    .long 0
    .quad 0
    .byte 0x82, 10, 0x66
    .ascii "not me"
refusal_end:
now:
    call_frame 1, "clock.now", now_end
    .byte 0x80
now_end:
line:
    call_frame 2, "console.out", line_end
    .byte 0x81, 0x4d
    .ascii "a \x1b[31m line\n"
line_end:
noise:
    call_frame 3, "console.out", noise_end
    .byte 0x81, 0x59, 0x10, 0x00
    .fill 4096, 1, 0x79
noise_end:
begin
    connect
next:
    expect DATA
    add rsi, HEADER
    cmp byte ptr [rsi + 8], KIND_CALL
    jne wrong
    mov eax, [rsi + 4]
    mov [rip + call_id], eax
    mov al, [rsi + FRAME_HEADER]
    on 'a', arguments
    on 'c', count
    on 'd', deny
    on 'f', fault
    on 'l', log
    on 'q', quit
    on 'r', refuse
    on 's', spin
    on 'w', wait
    on 'y', yell
wrong:
    exit CODE_WRONG_ANSWER
arguments:
    mov edx, [rsi]
    movzx ecx, byte ptr [rsi + 9]
    sub edx, ecx
    lea rsi, [rsi + FRAME_HEADER + rcx]
    mov r9, rsi
    copy_frame nothing, FRAME_HEADER
    mov [r12 + BODY], edx
    mov rsi, r9
    mov ecx, edx
    rep movsb
    lea ecx, [edx + FRAME_HEADER]
answer_of_ecx:
    offer_answer
count:
    # A CBOR integer of four bytes.
    copy_frame nothing, FRAME_HEADER
    mov dword ptr [r12 + BODY], 5
    mov byte ptr [r12 + BODY + FRAME_HEADER], 0x1a
    mov eax, [rip + answered]
    bswap eax
    mov [r12 + BODY + FRAME_HEADER + 1], eax
    mov ecx, FRAME_HEADER + 5
    jmp answer_of_ecx
deny:
    mov rax, -1
    call_host line, (line_end - line)
    expect_frame KIND_ERROR
    jmp deny
fault:
    ud2
log:
    grant CONSOLE
    call_host line, (line_end - line)
    expect_frame KIND_RETURN
    answer nothing
quit:
    exit 3
refuse:
    answer refusal
spin:
    jmp spin
wait:
    movzx ecx, byte ptr [rsi + 9]
    # A CBOR integer below 24, or of one more byte.
    movzx eax, byte ptr [rsi + FRAME_HEADER + rcx + 1]
    cmp eax, 0x18
    jne 1f
    movzx eax, byte ptr [rsi + FRAME_HEADER + rcx + 2]
1:  imul r10, rax, 100000000
    call read_clock
    add r10, rax
1:  mov [r13 + PARK], r10
    call read_clock
    cmp rax, r10
    jb 1b
    answer nothing
yell:
    grant CONSOLE
    call_host noise, (noise_end - noise)
    expect_frame KIND_RETURN
    jmp yell
# The monotonic clock, the second number of the answer, into rax.
read_clock:
    grant CLOCK
    call_host now, (now_end - now)
    expect_frame KIND_RETURN
    mov al, [rsi + FRAME_HEADER + 10]
    cmp al, 0x1b
    je 1f
    cmp al, 0x1a
    je 2f
    # Less than 65 microseconds.
    xor eax, eax
    ret
1:  mov rax, [rsi + FRAME_HEADER + 11]
    bswap rax
    ret
2:  mov eax, [rsi + FRAME_HEADER + 11]
    bswap eax
    ret
channel
    .data
call_id:
    .long 0
answered:
    .long 0
