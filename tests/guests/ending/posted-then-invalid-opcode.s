# Rule: what a muscle posted before an exception is carried, once, and is no way to go on.
# expect: fault invalid-opcode vector=6
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
    ud2
    not_stopped
channel
