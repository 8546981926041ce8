# Rule: a push through a stack pointer that is not canonical raises #SS.
# expect: fault stack-segment vector=12 error=0x0
# expect-tcg: fault general-protection vector=13 error=0x0
.include "muscle.inc"
begin
    mov rsp, 0x8000000000000000
    push rax
    not_stopped
