# Rule: an exception is reported whatever the stack pointer is, even if it is no address.
# expect: fault invalid-opcode vector=6 region=code side=inside
.include "muscle.inc"
begin
    mov rsp, 0xdeadbeefdeadbeef
    ud2
    not_stopped
