# Rule, when it is asked to: a function whose name begins with f never comes back, and sends without end meanwhile.
# expect: exit 0
# style: reactor
# exports: count echo flood
# call: echo [1]
# stdout: [1]\n
.equ FLOOD_TOO, 1
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    serve_echo
# As many packets as the queue takes, and one more for each that the device has taken.
flood:
    packet CREDIT_UPDATE, RPC_PORT
    descriptor TX, 0, OUT, HEADER
1:  mov ax, [r12 + TX + AVAILABLE + 2]
    sub ax, [r12 + TX + USED + 2]
    cmp ax, QUEUE_SIZE
    je 1b
    offer TX, 0
    jmp 1b
channel
