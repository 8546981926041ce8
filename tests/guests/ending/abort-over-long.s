# Rule: a message longer than the mailbox is cut to the mailbox.
# expect: fault aborted
.include "muscle.inc"
begin
    lea rdi, [r12]
    mov ecx, 0x800
    mov al, 'x'
    rep stosb
    ring ABORT, 0x10000
    not_stopped
