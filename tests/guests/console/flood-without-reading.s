# Rule: answers that a muscle does not take are not piled up: it waits for ever.
# expect: fault parked-for-ever
# slots: console=console
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
frame:
    call_frame 1, "console.out", frame_end
    .byte 0x81, 0x40
frame_end:
begin
    connect
    mov r15d, 64
1:  mov word ptr [r12 + RX + AVAILABLE + 2], QUEUE_SIZE
    grant 0
    call_host frame, (frame_end - frame)
    dec r15d
    jnz 1b
2:  ring PARK, 0
    ring PARK, 0
    ring PARK, 0
    ring PARK, 0
    jmp 2b
channel
