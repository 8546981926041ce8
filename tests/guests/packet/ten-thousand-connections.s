# Rule: ten thousand connections at once are refused one by one, each with a reset; the table stays small, and an
# honest request is answered afterwards.
# expect: exit 0
# limits: deadline_ms=60000 cpu_ms=60000
.include "muscle.inc"
.include "channel.inc"
begin
    call post_buffers
    mov r15d, 10048
    mov ebp, 20000
batch:
    xor r8d, r8d
fill:
    packet REQUEST, 2000
    mov [r12 + OUT + 16], ebp
    inc ebp
    lea rsi, [r12 + OUT]
    mov edx, r8d
    shl edx, 6
    lea rdi, [r12 + 0x50000 + rdx]
    mov ecx, HEADER
    rep movsb
    mov rax, [rbx + BOOT_WINDOW_GPA]
    lea rax, [rax + 0x50000 + rdx]
    mov ecx, r8d
    shl ecx, 4
    mov [r12 + TX + rcx], rax
    mov dword ptr [r12 + TX + rcx + 8], HEADER
    mov dword ptr [r12 + TX + rcx + 12], 0
    movzx eax, word ptr [r12 + TX + AVAILABLE + 2]
    mov ecx, eax
    and ecx, QUEUE_SIZE - 1
    mov [r12 + TX + AVAILABLE + 4 + rcx * 2], r8w
    inc eax
    mov [r12 + TX + AVAILABLE + 2], ax
    inc r8d
    cmp r8d, QUEUE_SIZE
    jne fill
    ring YIELD, 0
    mov r9d, QUEUE_SIZE
answers:
    expect RESET
    dec r9d
    jnz answers
    sub r15d, QUEUE_SIZE
    jnz batch
    send REQUEST, RPC_PORT
    expect RESPONSE
    exit 0
channel
