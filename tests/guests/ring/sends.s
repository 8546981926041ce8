# Breaks no rule: sends the message "hi" by hand, and wakes the receiver.
# expect: exit 0
# slots: ring=ring:send:4096
.include "muscle.inc"
begin
    ring_base 0
    mov qword ptr [rdi + RING_DATA], 2
    mov dword ptr [rdi + RING_DATA + 8], 0x6968
    mov rax, [rdi + SENDER_HOST_PAGE]
    shl rax, 32
    or rax, 2
    mov [rdi + SENDER_PAGE], rax
    grant 0
    mov [r13 + RING_WAKE], rax
    exit 0
