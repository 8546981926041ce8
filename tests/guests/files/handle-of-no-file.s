# Rule: a file that was not opened cannot be read.
# expect: exit any-of=2,3,5
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
    call_frame 1, "files.read", frame_end
    .byte 0x83, 0x18, 0x63, 0x00, 0x10
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
