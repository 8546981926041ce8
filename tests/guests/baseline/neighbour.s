# The well-behaved cell that runs beside every other guest: fills its heap with a pattern, says so, waits for the
# end of standard input, and finds its pattern again.
# slots: console=console:input
# limits: deadline_ms=60000 cpu_ms=60000
# expect: exit 7
# stdout: ready\n
.include "muscle.inc"
.include "channel.inc"
    .section .rodata
ready:
    call_frame 1, "console.out", ready_end
    .byte 0x81, 0x46
    .ascii "ready\n"
ready_end:
wait:
    call_frame 2, "console.in", wait_end
    .byte 0x81, 0x10
wait_end:
begin
    boot rdi, BOOT_HEAP
    boot rcx, BOOT_HEAP_LEN
    shr rcx, 3
1:  lea rax, [rcx + rcx * 8]
    not rax
    mov [rdi + rcx * 8 - 8], rax
    dec rcx
    jnz 1b
    connect
    grant 0
    call_host ready, (ready_end - ready)
    expect_frame KIND_RETURN
    grant 0
    call_host wait, (wait_end - wait)
    expect_frame KIND_RETURN
    boot rdi, BOOT_HEAP
    boot rcx, BOOT_HEAP_LEN
    shr rcx, 3
1:  lea rax, [rcx + rcx * 8]
    not rax
    cmp [rdi + rcx * 8 - 8], rax
    jne 2f
    dec rcx
    jnz 1b
    exit 7
2:  exit CODE_WRONG_ANSWER
channel
