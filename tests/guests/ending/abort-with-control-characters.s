# Rule: what a muscle says when it gives up cannot command the operator's terminal: no escape, no bell, no
# carriage return, no C1 control gets through.
# expect: fault aborted message="evil"
.include "muscle.inc"
    .section .rodata
text:
    .ascii "\033]0;owned\007\033[2Jevil\r\b\177\302\233"
    .ascii "31m\0"
text_end:
begin
    lea rsi, [rip + text]
    lea rdi, [r12 + MAILBOX_TEXT]
    mov ecx, (text_end - text)
    rep movsb
    ring ABORT, (text_end - text)
    not_stopped
