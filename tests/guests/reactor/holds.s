# Breaks no rule. Uses a granted directory and answers with the code of the error that it gets, or 0:
#   open    opens a file and keeps it      stat    asks about the file by its name
#   read    reads what it keeps open       until   asks again and again, until it is refused
#   write   writes to what it keeps open
# expect: exit 0
# style: reactor
# exports: open read stat until write
# slots: dir=files:rw:65536:8
# limits: deadline_ms=50000 cpu_ms=50000
# files: dir/inside=hello
# bind: dir=dir:{}/dir:rw
# call: read []
# stdout: 2\n
.include "muscle.inc"
.include "channel.inc"
.macro on letter, act
    cmp al, \letter
    je \act
.endm
# Puts a frame to be sent with the grant's handle into place, with the number of the open file at `number`.
.macro with_file label, number
    grant 0
    mov r8, rax
    copy_frame \label, (\label\()_end - \label)
    mov [r12 + BODY + 16], r8
    mov al, [rip + file]
    mov [r12 + BODY + (\number - \label)], al
    send DATA, RPC_PORT, (\label\()_end - \label)
    call outcome
.endm
    .section .rodata
opening:
    call_frame 1, "files.open", opening_end
    .byte 0x82, 0x66
    .ascii "inside"
    .byte 1
opening_end:
reading:
    call_frame 2, "files.read", reading_end
    .byte 0x83
reading_file:
    .byte 0, 0, 16
reading_end:
writing:
    call_frame 3, "files.write", writing_end
    .byte 0x83
writing_file:
    .byte 0, 0, 0x44
    .ascii "ping"
writing_end:
asking:
    call_frame 4, "files.stat", asking_end
    .byte 0x81, 0x66
    .ascii "inside"
asking_end:
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
    on 'o', open
    on 'r', read
    on 's', stat
    on 'u', until
    on 'w', write
wrong:
    exit CODE_WRONG_ANSWER
open:
    grant 0
    call_host opening, (opening_end - opening)
    call outcome
    test al, al
    jnz answer
    mov cl, [rsi + FRAME_HEADER]
    mov [rip + file], cl
    jmp answer
read:
    with_file reading, reading_file
    jmp answer
write:
    with_file writing, writing_file
    jmp answer
stat:
    grant 0
    call_host asking, (asking_end - asking)
    call outcome
    jmp answer
until:
    grant 0
    call_host asking, (asking_end - asking)
    call outcome
    test al, al
    jz until
    jmp answer
# al = the code of the error that comes, 0 for none; rsi = its frame.
outcome:
    expect DATA
    add rsi, HEADER
    xor eax, eax
    cmp byte ptr [rsi + 8], KIND_RETURN
    je 1f
    mov al, [rsi + FRAME_HEADER + 1]
1:  ret
# Answers with al, which is a CBOR integer.
answer:
    mov [r12 + BODY + FRAME_HEADER], al
    mov dword ptr [r12 + BODY], 1
    mov eax, [rip + call_id]
    mov [r12 + BODY + 4], eax
    mov dword ptr [r12 + BODY + 8], KIND_RETURN
    mov dword ptr [r12 + BODY + 12], 0
    mov qword ptr [r12 + BODY + 16], 0
    packet DATA, RPC_PORT, (FRAME_HEADER + 1)
    descriptor TX, 0, OUT, (HEADER + FRAME_HEADER + 1)
    offer TX, 0
    ring PARK, 0
    jmp next
channel
    .data
call_id:
    .long 0
file:
    .byte 0
