# Breaks no rule: resets the device and brings it up again by the handshake of virtio 1.2, §3.1, then connects.
# expect: exit 0
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x70, 0
    register_write 0x70, 1
    register_write 0x70, 3
    register_write 0x24, 0
    register_write 0x20, 1
    register_write 0x24, 1
    register_write 0x20, 1
    register_write 0x70, 11
    mov eax, [r14 + 0x70]
    cmp eax, 11
    jne 1f
    xor r15d, r15d
2:  mov [r14 + 0x30], r15d
    register_write 0x38, 64
    mov r8, [rbx + BOOT_WINDOW_GPA]
    lea rcx, [r15 + 1]
    shl rcx, 11
    add r8, rcx
    mov [r14 + 0x80], r8d
    register_write 0x84, 0
    lea rax, [r8 + AVAILABLE]
    mov [r14 + 0x90], eax
    register_write 0x94, 0
    lea rax, [r8 + USED]
    mov [r14 + 0xa0], eax
    register_write 0xa4, 0
    register_write 0x44, 1
    inc r15d
    cmp r15d, 3
    jne 2b
    register_write 0x70, 15
    connect
    exit 0
1:  exit CODE_WRONG_ANSWER
channel
