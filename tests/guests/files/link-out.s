# Rule: a link out of the directory is not followed.
# expect: exit any-of=1,5
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
    .byte 0x82, 0x78, path_end - path
path:
    .ascii "out"
path_end:
    .byte 0
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
