# Rule: the first rule that a muscle broke before it stopped is the one that its processor stopped for, whatever its queue holds.
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
    xor eax, eax
    descriptor_at TX, 1, HEADER
    offer TX, 1
    ud2
    not_stopped
channel
