# Rule: a directory bound for reading is not written.
# expect: exit any-of=1,5
# slots: dir=files:ro:65536:8
# files: dir/inside=hello
# files: secret=do not read
# link: dir/out=../secret
# link: dir/proc=/proc/self/root
# link: dir/loop=loop
# bind: dir=dir:{}/dir:ro
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "files.open", frame_end
    .byte 0x82, 0x66
    .ascii "inside"
    .byte 1
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
