# Rule: a single instruction that runs long is interrupted by the deadline.
# expect: fault deadline
# limits: deadline_ms=200
.include "muscle.inc"
begin
1:  mov rcx, 0x70000
    mov rdi, r12
    mov rsi, r12
    xor eax, eax
    rep lodsb
    jmp 1b
