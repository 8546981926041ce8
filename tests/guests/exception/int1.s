# Rule: the one-byte debug trap raises #DB.
# expect: fault debug vector=1 region=code side=inside
# expect-tcg: fault invalid-opcode vector=6
.include "muscle.inc"
begin
    .byte 0xf1
    not_stopped
