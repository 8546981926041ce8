# Breaks no rule: writes to standard output by a granted handle.
# slots: console=console
# expect: exit 0
# stdout: hello\n
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.out", frame_end
    .byte 0x81, 0x46
    .ascii "hello\n"
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    expect_frame KIND_RETURN
    exit 0
channel
