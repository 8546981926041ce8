# Reads standard input and writes standard output as it is told. Each function is one act, known by its first letter:
#   again   writes what it reads, until its end; answers how many bytes
#   count   reads until the end and answers how many bytes
#   fault   writes a line and executes an invalid instruction
#   gush    writes 512 times 2 KiB, each posted with a doorbell whose answer must not be lost; answers how many bytes
#   never   writes a line, reads nothing
#   refuse  writes a line and answers with an error of its own
#   spin    writes a line and never comes back
#   yell    writes for ever
# A use of the console that the host refuses ends any of them with the error's code as the answer.
# expect: exit 0
# on: node
# style: reactor
# exports: again count fault gush never refuse spin yell
# slots: console=console:input
# limits: deadline_ms=60000 cpu_ms=50000
.include "muscle.inc"
.include "channel.inc"
.equ CONSOLE, 0
.macro on letter, act
    cmp al, \letter
    je \act
.endm
# Waits for the answer to a use of the console; rsi = its frame. An error is the answer of the function.
.macro expect_granted
    expect DATA
    add rsi, HEADER
    cmp byte ptr [rsi + 8], KIND_RETURN
    jne denied
.endm
# Offers the packet at OUT with ecx bytes.
.macro offer_bytes
    mov r8d, ecx
    packet DATA, RPC_PORT
    mov [r12 + OUT + 24], r8d
    descriptor TX, 0, OUT, HEADER
    add r8d, HEADER
    mov [r12 + TX + 8], r8d
    offer TX, 0
.endm
.macro write_line
    grant CONSOLE
    call_host line, (line_end - line)
    expect_granted
.endm
.macro read_some
    grant CONSOLE
    call_host input, (input_end - input)
    expect_granted
    mov edx, [rsi + FRAME_HEADER + 1]
    bswap edx
    add [rip + total], rdx
.endm
    .section .rodata
number:
    .long 9, 0
    .byte KIND_RETURN, 0, 0, 0
    .long 0
    .quad 0
    .byte 0x1b
number_end:
refusal:
    .long 9, 0
    .byte KIND_ERROR, 0, 0, 0
    .long 0
    .quad 0
    .byte 0x82, 10, 0x66
    .ascii "not me"
refusal_end:
input:
    call_frame 1, "console.in", input_end
    .byte 0x81, 0x19, 0x07, 0x80
input_end:
line:
    call_frame 2, "console.out", line_end
    .byte 0x81, 0x45
    .ascii "line\n"
line_end:
block:
    call_frame 3, "console.out", block_end
    .byte 0x81, 0x59, 0x08, 0x00
    .fill 2048, 1, 0x79
block_end:
# What stands before the bytes that are written again.
output:
    call_frame 4, "console.out", output_end
    .byte 0x81
output_end:
begin
    connect
next:
    expect DATA
    add rsi, HEADER
    cmp byte ptr [rsi + 8], KIND_CALL
    jne wrong
    mov eax, [rsi + 4]
    mov [rip + call_id], eax
    mov qword ptr [rip + total], 0
    mov al, [rsi + FRAME_HEADER]
    on 'a', again
    on 'c', count
    on 'f', fault
    on 'g', gush
    on 'n', never
    on 'r', refuse
    on 's', spin
    on 'y', yell
wrong:
    exit CODE_WRONG_ANSWER
again:
    read_some
    test edx, edx
    jz answer_total
    mov r10, rsi
    mov r11d, edx
    copy_frame output, (output_end - output)
    # The name, the array and the byte string as it came.
    lea eax, [r11d + 11 + 1 + 5]
    mov [r12 + BODY], eax
    grant CONSOLE
    mov [r12 + BODY + 16], rax
    lea rsi, [r10 + FRAME_HEADER]
    lea ecx, [r11d + 5]
    rep movsb
    lea ecx, [r11d + 5 + (output_end - output)]
    offer_bytes
    ring YIELD, 0
    expect_granted
    jmp again
count:
    read_some
    test edx, edx
    jnz count
answer_total:
    mov r10, [rip + total]
# Answers with the number in r10.
answer_number:
    copy_frame number, (number_end - number)
    bswap r10
    mov [rdi], r10
    mov ecx, number_end - number + 8
answer:
    mov eax, [rip + call_id]
    mov [r12 + BODY + 4], eax
    offer_bytes
    ring PARK, 0
    jmp next
denied:
    movzx r10d, byte ptr [rsi + FRAME_HEADER + 1]
    jmp answer_number
fault:
    write_line
    ud2
gush:
    mov r15d, 512
1:  grant CONSOLE
    mov r10, rax
    copy_frame block, (block_end - block)
    mov [r12 + BODY + 16], r10
    mov ecx, block_end - block
    offer_bytes
    # Taken with this doorbell, which answers how much heap there is.
    mov qword ptr [r12], 0
    ring GROW, 0
    cmp qword ptr [r12], 0
    je lost
    expect_granted
    add qword ptr [rip + total], 2048
    dec r15d
    jnz 1b
    jmp answer_total
lost:
    not_stopped
never:
    write_line
    jmp answer_total
refuse:
    write_line
    copy_frame refusal, (refusal_end - refusal)
    mov ecx, refusal_end - refusal
    jmp answer
spin:
    write_line
    jmp .
yell:
    grant CONSOLE
    call_host block, (block_end - block)
    expect_granted
    jmp yell
channel
    .data
    .balign 8
total:
    .quad 0
call_id:
    .long 0
