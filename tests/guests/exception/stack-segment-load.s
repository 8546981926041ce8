# Rule: a load by a base pointer that is not canonical raises #SS.
# expect: fault stack-segment vector=12 error=0x0
# expect-tcg: fault general-protection vector=13 error=0x0
.include "muscle.inc"
begin
    mov rbp, 0x8000000000000000
    mov rax, [rbp]
    not_stopped
