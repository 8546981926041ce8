# Rule: a copy that runs past the heap that was given is stopped there.
# expect: fault heap-beyond-grant region=heap side=inside message="heap offset 0x10000"
.include "muscle.inc"
begin
    boot rdi, BOOT_HEAP
    mov rcx, [rbx + BOOT_HEAP_LEN]
    add rcx, 4096
    xor eax, eax
    rep stosb
    not_stopped
