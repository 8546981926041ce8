# Rule: the first rule that a muscle broke before it stopped is the one that its processor stopped for, whatever its queue holds.
# expect: fault invalid-opcode vector=6
# slots: console=console
# stdout: before\n
.include "muscle.inc"
.include "channel.inc"
.include "posted.inc"
begin_and_post
    xor eax, eax
    descriptor_at TX, 1, HEADER
    offer TX, 1
    ud2
    not_stopped
channel
