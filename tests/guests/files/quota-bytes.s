# Rule: a directory has a quota of bytes, and a file with holes counts.
# expect: exit any-of=5,6
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
    .byte 0x82, 0x63
    .ascii "new"
    .byte 3
frame_end:
write:
    call_frame 2, "files.write", write_end
    .byte 0x83
write_file:
    .byte 0, 0x1b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x41, 0x78
write_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    expect_frame KIND_RETURN
    mov r15b, [rsi + 24]
    grant 0
    mov r8, rax
    copy_frame write, (write_end - write)
    mov [r12 + BODY + 16], r8
    mov [r12 + BODY + (write_file - write)], r15b
    send DATA, RPC_PORT, (write_end - write)
    exit_with_error_code
channel
