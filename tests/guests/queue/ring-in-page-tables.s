# Rule: a queue lies in the window or the heap; its used ring could write page tables.
# expect: fault channel message="used ring of queue 1"
.include "muscle.inc"
.include "channel.inc"
begin
    register_write 0x70, 0
    register_write 0x70, 3
    register_write 0x24, 0
    register_write 0x20, 1
    register_write 0x24, 1
    register_write 0x20, 1
    register_write 0x70, 11
    register_write 0x30, 1
    register_write 0x38, 64
    mov rax, [rbx + BOOT_WINDOW_GPA]
    add rax, TX
    mov [r14 + 0x80], eax
    add rax, AVAILABLE
    mov [r14 + 0x90], eax
    tables_gpa
    mov [r14 + 0xa0], eax
    register_write 0x44, 1
    not_stopped
channel
