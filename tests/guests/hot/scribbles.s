# Rule, when it is hot: offers more chains than the queue has, while the host looks at it.
# expect: exit 0
# style: reactor
# exports: count echo
# call: echo [1]
# stdout: [1]\n
.include "muscle.inc"
.include "channel.inc"
.purgem when_polling
.macro when_polling
    mov ax, [r12 + TX + AVAILABLE + 2]
    add ax, QUEUE_SIZE + 1
    mov [r12 + TX + AVAILABLE + 2], ax
.endm
begin
    connect
    serve_echo
channel
