# Rule: what a muscle posted before it misuses the device is carried.
# expect: fault channel message="no register at 0x200"
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.out", frame_end
    .byte 0x81, 0x47
    .ascii "before\n"
frame_end:
begin
    connect
    grant 0
    post_call frame, (frame_end - frame)
    mov eax, [r14 + 0x200]
    not_stopped
channel
