# Rule: popf cannot raise the I/O privilege level: the attempt is ignored, and port I/O still traps.
# expect: fault port
.include "muscle.inc"
begin
    pushfq
    or dword ptr [rsp], 0x3000
    popfq
    out 0x80, al
    not_stopped
