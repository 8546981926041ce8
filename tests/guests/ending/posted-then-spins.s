# Rule: what a muscle posted before it spins into its deadline is carried.
# expect: fault deadline
# slots: console=console
# limits: deadline_ms=200
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
1:  jmp 1b
channel
