# Rule: CBOR nested without end is refused, and does not use up the stack of the host.
# expect: exit 9
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.out", frame_end
    .fill 20000, 1, 0x81
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
