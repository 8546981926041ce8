# Rule: a message that is no text is shown as such.
# expect: fault aborted
.include "muscle.inc"
begin
    mov qword ptr [r12 + MAILBOX_TEXT], -1
    ring ABORT, 8
    not_stopped
