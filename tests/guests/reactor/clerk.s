# Breaks no rule by `read` and `save`, which act on files of the granted directory; the other functions try to leave it, and each
# answers with the code of the error that it gets:
#   climb   ../secret     link    out, a link to ../secret     root    /etc/passwd
# expect: exit 0
# style: reactor
# exports: climb link read root save
# slots: dir=files:rw:65536:8
# files: dir/inside=hello
# files: secret=do not read
# link: dir/out=../secret
# bind: dir=dir:{}/dir:rw
# call: save []
# stdout: null\n
.include "muscle.inc"
.include "channel.inc"
# Answers with what stands in the frame at rsi, less `skip` bytes of its payload.
.macro relay skip=0
    mov edx, [rsi]
    sub edx, \skip
    lea rsi, [rsi + FRAME_HEADER + \skip]
    jmp answer
.endm
# Opens a file by a frame that stands at `label`, which must fail, and answers with the code: the second byte of [code, message].
.macro must_fail label
    grant 0
    call_host \label, (\label\()_end - \label)
    expect_frame KIND_ERROR
    mov dword ptr [rsi], 2
    relay 1
.endm
.macro open_frame label, path, flags
\label:
    call_frame 1, "files.open", \label\()_end
    .byte 0x82, 0x60 + \label\()_path_end - \label\()_path
\label\()_path:
    .ascii "\path"
\label\()_path_end:
    .byte \flags
\label\()_end:
.endm
# Acts on the open file, whose number is the payload's second byte, at `number`.
.macro act_on_file label, number
    grant 0
    mov r8, rax
    copy_frame \label, (\label\()_end - \label)
    mov [r12 + BODY + 16], r8
    mov al, [rip + file]
    mov [r12 + BODY + (\number - \label)], al
    send DATA, RPC_PORT, (\label\()_end - \label)
    expect_frame KIND_RETURN
.endm
.macro open label
    grant 0
    call_host \label, (\label\()_end - \label)
    expect_frame KIND_RETURN
    mov al, [rsi + FRAME_HEADER]
    mov [rip + file], al
.endm
    .section .rodata
    open_frame inside, "inside", 0
    open_frame made, "made", 3
    open_frame above, "../secret", 0
    open_frame out, "out", 0
    open_frame passwd, "/etc/passwd", 0
write:
    call_frame 2, "files.write", write_end
    .byte 0x83
write_file:
    .byte 0, 0, 0x44
    .ascii "ping"
write_end:
read:
    call_frame 3, "files.read", read_end
    .byte 0x83
read_file:
    .byte 0, 0, 16
read_end:
close:
    call_frame 4, "files.close", close_end
    .byte 0x81
close_file:
    .byte 0
close_end:
begin
    connect
next:
    expect DATA
    add rsi, HEADER
    cmp byte ptr [rsi + 8], KIND_CALL
    jne wrong
    mov eax, [rsi + 4]
    mov [rip + call_id], eax
    mov ax, [rsi + FRAME_HEADER]
    cmp ax, 0x6c63 # cl
    je climb
    cmp ax, 0x696c # li
    je link
    cmp ax, 0x6572 # re
    je read_inside
    cmp ax, 0x6f72 # ro
    je root
    cmp ax, 0x6173 # sa
    je save
wrong:
    exit CODE_WRONG_ANSWER
climb:
    must_fail above
link:
    must_fail out
root:
    must_fail passwd
read_inside:
    open inside
    act_on_file read, read_file
    # Kept in the window while the file is closed: the frame's buffer is offered again.
    mov ecx, [rsi]
    add ecx, FRAME_HEADER
    lea rdi, [r12 + ASIDE]
    rep movsb
    act_on_file close, close_file
    lea rsi, [r12 + ASIDE]
    relay
save:
    open made
    act_on_file write, write_file
    act_on_file close, close_file
    relay
# Answers with edx bytes at rsi.
answer:
    lea rdi, [r12 + BODY + FRAME_HEADER]
    mov ecx, edx
    rep movsb
    mov [r12 + BODY], edx
    mov eax, [rip + call_id]
    mov [r12 + BODY + 4], eax
    mov dword ptr [r12 + BODY + 8], KIND_RETURN
    mov dword ptr [r12 + BODY + 12], 0
    mov qword ptr [r12 + BODY + 16], 0
    lea r8d, [edx + FRAME_HEADER]
    packet DATA, RPC_PORT
    mov [r12 + OUT + 24], r8d
    descriptor TX, 0, OUT, HEADER
    add r8d, HEADER
    mov [r12 + TX + 8], r8d
    offer TX, 0
    ring PARK, 0
    jmp next
.equ ASIDE, 0x50000
channel
    .data
call_id:
    .long 0
file:
    .byte 0
    .text
