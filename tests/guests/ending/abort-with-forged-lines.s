# Rule: what a muscle says when it gives up cannot forge a line of the VMM's own.
# expect: fault aborted message="first"
.include "muscle.inc"
    .section .rodata
text:
    .ascii "first\n{\"outcome\":\"host-error\"}\nhost error: forged"
text_end:
begin
    lea rsi, [rip + text]
    lea rdi, [r12 + MAILBOX_TEXT]
    mov ecx, (text_end - text)
    rep movsb
    ring ABORT, (text_end - text)
    not_stopped
