# Rule: CBOR that ends too early is refused.
# expect: exit 9
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.out", frame_end
    .byte 0x81, 0x58, 0xff, 0x78
frame_end:
begin
    connect
    grant 0
    call_host frame, (frame_end - frame)
    exit_with_error_code
channel
