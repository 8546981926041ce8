# Rule: a directory has a quota of files.
# expect: exit 6
# slots: dir=files:rw:65536:8
# files: dir/inside=hello
# files: secret=do not read
# link: dir/out=../secret
# link: dir/proc=/proc/self/root
# link: dir/loop=loop
# bind: dir=dir:{}/dir:rw
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "files.open", frame_end
    .byte 0x82, 0x61
name:
    .ascii "a"
    .byte 3
frame_end:
begin
    connect
    mov ebp, 0x61
1:  grant 0
    mov r8, rax
    copy_frame frame, (frame_end - frame)
    mov [r12 + BODY + 16], r8
    mov [r12 + BODY + (name - frame)], bpl
    send DATA, RPC_PORT, (frame_end - frame)
    expect DATA
    add rsi, HEADER
    cmp byte ptr [rsi + 8], KIND_ERROR
    je 2f
    inc ebp
    cmp ebp, 0x7a
    jne 1b
    not_stopped
2:  movzx eax, byte ptr [rsi + 25]
    exit rax
channel
