# Rule: a muscle that is refused without end is ended: every refusal costs the operator a record.
# expect: fault denial-limit
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.out", frame_end
    .byte 0x81, 0x41, 0x78
frame_end:
begin
    connect
1:  mov rax, -1
    call_host frame, (frame_end - frame)
    expect_frame KIND_ERROR
    jmp 1b
channel
