# Rule: a driver that asks for a feature that was not offered does not get into service.
# expect: fault channel message="skips a step"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x70, 0
    register_write 0x70, 3
    register_write 0x24, 0
    register_write 0x20, 0x20000001
    register_write 0x70, 11
    mov eax, [r14 + 0x70]
    cmp eax, 3
    jne 1f
    register_write 0x70, 15
    not_stopped
1:  exit CODE_WRONG_ANSWER
channel
