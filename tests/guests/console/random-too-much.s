# Rule: random bytes come in bounded pieces.
# expect: exit any-of=5,11
# slots: random=random
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "random.fill", frame_end
    .byte 0x81, 0x1a, 0xff, 0xff, 0xff, 0xff
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
