# Rule: caches cannot be dropped.
# expect: fault general-protection vector=13 error=0x0 region=code side=inside
.include "muscle.inc"
begin
    invd
    not_stopped
