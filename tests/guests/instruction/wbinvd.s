# Rule: caches cannot be flushed.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    wbinvd
    not_stopped
