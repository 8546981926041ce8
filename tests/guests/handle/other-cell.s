# Rule: a handle of the cell beside this one, which has three slots, means nothing here.
# expect: exit 2
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
    grant 0
    add rax, 2
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
