# Rule: a log line cannot command the operator's terminal.
# expect: exit 0
# slots: console=console
# stderr: clean
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.log", frame_end
    .byte 0x83, 0x01, 0x61, 0x78, 0x6d
    .ascii "\033[31m\r\007evil\n"
    .byte 0x7f
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    expect_frame KIND_RETURN
    exit 0
channel
