# Rule: what a muscle posted before it touches heap that it was not given is carried.
# expect: fault heap-beyond-grant
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    boot rcx, BOOT_HEAP
    add rcx, [rbx + BOOT_HEAP_LEN]
    mov rax, [rcx]
    not_stopped
channel
