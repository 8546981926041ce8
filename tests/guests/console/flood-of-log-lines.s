# Rule: log lines count towards the same limit.
# expect: fault output-limit message="4096 bytes"
# slots: console=console
# run: --max-output-bytes 4096
# stderr: ignored
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.log", frame_end
    .byte 0x83, 0x01, 0x61, 0x78, 0x78, 0x40
    .fill 64, 1, 0x79
frame_end:
begin
    connect
1:  grant 0
    call_host frame, (frame_end - frame)
    expect_frame KIND_RETURN
    jmp 1b
channel
