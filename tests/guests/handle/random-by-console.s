# Rule: a handle is good for its own capability alone: the console gives no random bytes.
# expect: exit any-of=1,8
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "random.fill", frame_end
    .byte 0x81, 0x10
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
