# Rule: standard error counts towards the same limit.
# expect: fault output-limit message="65536 bytes"
# slots: console=console
# run: --max-output-bytes 65536
# stderr: ignored
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.err", frame_end
    .byte 0x81, 0x59, 0x10, 0x00
    .fill 4095, 1, 0x79
    .byte 10
frame_end:
begin
    connect
1:  grant 0
    call_host frame, (frame_end - frame)
    expect_frame KIND_RETURN
    jmp 1b
channel
