# Rule: the grant of a ring allows no calls of the host.
# expect: exit 1
# slots: ring=ring:send:4096
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    grant 0
    call_host ask, (ask_end - ask)
    exit_with_error_code
    .section .rodata
ask:
    call_frame 1, "random.fill", ask_end
    .byte 0x81, 8
ask_end:
    .text
channel
