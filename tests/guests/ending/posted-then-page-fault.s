# Rule: what a muscle posted before a page fault is carried.
# expect: fault page-fault vector=14
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    xor eax, eax
    mov rax, [rax]
    not_stopped
channel
