# Rule: a cell has no kernel to call.
# expect: fault syscall region=code side=inside
.include "muscle.inc"
begin
    mov eax, 60
    syscall
    not_stopped
