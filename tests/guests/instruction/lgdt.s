# Rule: the segment table cannot be replaced.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    lgdt [rsp - 16]
    not_stopped
