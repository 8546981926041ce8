# Rule: a muscle that asks for connections without end and takes no answer is not given memory for the answers: its
# own packets are left where they are, and it waits for ever.
# expect: fault parked-for-ever
.include "muscle.inc"
.include "channel.inc"
begin
    mov r15d, 10000
    mov ebp, 20000
1:  packet REQUEST, 2000
    mov [r12 + OUT + 16], ebp
    inc ebp
    transmit
    movzx eax, word ptr [r12 + TX + AVAILABLE + 2]
    cmp ax, [r12 + TX + USED + 2]
    jne 2f
    dec r15d
    jnz 1b
    not_stopped
2:  ring PARK, 0
    not_stopped
channel
