# Rule: a buffer may not run out of the window.
# expect: fault channel message="outside the device's memory"
.include "muscle.inc"
.include "channel.inc"
begin
    mov rax, [rbx + BOOT_WINDOW_GPA]
    add rax, [rbx + BOOT_WINDOW_LEN]
    sub rax, 10
    descriptor_at TX, 0, HEADER
    offer TX, 0
    ring YIELD, 0
    not_stopped
channel
