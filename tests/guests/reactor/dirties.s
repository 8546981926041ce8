# Breaks no rule: finds registers and memory as a new cell has them, or exits with a code that says what is not; then makes all of
# it dirty and answers a call with null. A cell that is reset must let it pass again. It uses a handle that it has not got
# before it waits, so no life begins from a template.
# expect: exit 0
# style: reactor
# exports: f
# call: f []
# stdout: null\n
# It writes over the word that would have it poll.
.equ NEVER_POLL, 1
.include "muscle.inc"
.include "channel.inc"
.equ JUNK, 0x5a5a5a5a5a5a5a5a
.equ MARK, 0x1122334455667788
every_segment
    .section .rodata
answer:
    .long 1, 0
    .byte 1, 0, 0, 0
    .long 0
    .quad 0
    .byte 0xf6
answer_end:
ask:
    call_frame 1, "console.out", ask_end
    .byte 0x81, 0x41, 0x20
ask_end:
junk_mxcsr:
    .long 0x7f80
junk_fcw:
    .word 0x0c7f
    .data
    .balign 8
mark:
    .quad MARK
    .bss
    .balign 8
empty:
    .space 8192
    .text
# Ends with `code` unless all `rcx` bytes, a multiple of eight, at rdi are zero.
.macro zero code
    shr rcx, 3
    xor eax, eax
    repe scasq
    je 905f
    mov r13, [rbx + BOOT_DOORBELL]
    exit \code
905:
.endm
# Fills rcx bytes, a multiple of eight, at rdi.
.macro fill
    shr rcx, 3
    movabs rax, JUNK
    rep stosq
.endm
    .globl _start
    .type _start, @function
_start:
    # Flags first, then the registers, before anything changes them. The direction flag would show below.
    or rax, rbx
    or rax, rcx
    or rax, rdx
    or rax, rsi
    or rax, rbp
    or rax, r8
    or rax, r9
    or rax, r10
    or rax, r11
    or rax, r12
    or rax, r13
    or rax, r14
    or rax, r15
    mov rbx, rdi
    mov r12, [rbx + BOOT_WINDOW]
    mov r13, [rbx + BOOT_DOORBELL]
    mov r14, [rbx + BOOT_VSOCK]
    test rax, rax
    jz 1f
    exit 1
1:  pushfq
    pop rax
    push 0
    pop rcx
    # Zero, parity and interrupt flags are of the test above and of every ring 3.
    test eax, 0x400
    jz 1f
    exit 2
1:  mov qword ptr [rsp - 8], 0
    # Control words of x87 and SSE; the stack is clean again afterwards.
    sub rsp, 8
    fnstcw [rsp]
    cmp word ptr [rsp], 0x37f
    je 1f
    exit 3
1:  stmxcsr [rsp]
    cmp dword ptr [rsp], 0x1f80
    je 1f
    exit 4
1:  fnstsw ax
    test ax, 0x3800
    jz 1f
    exit 5
1:  mov qword ptr [rsp], 0
    add rsp, 8
    # Vector registers.
    xor edx, edx
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movq rax, xmm\n
    or rdx, rax
    movhlps xmm0, xmm\n
    movq rax, xmm0
    or rdx, rax
    .endr
    test rdx, rdx
    jz 1f
    exit 6
1:  # AVX, where this processor and the operating mode have it: CPUID 1, ECX bits 27 and 28.
    push rbx
    mov eax, 1
    xor ecx, ecx
    cpuid
    pop rbx
    mov r15d, ecx
    and r15d, 0x18000000
    cmp r15d, 0x18000000
    jne 2f
    .irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vextractf128 xmm0, ymm\n, 1
    ptest xmm0, xmm0
    jz 1f
    exit 7
1:
    .endr
2:  # Memory.
    movabs rax, MARK
    cmp [rip + mark], rax
    je 1f
    exit 8
1:  lea rdi, [rip + empty]
    mov ecx, 8192
    zero 9
    mov qword ptr [rsp - 8], 0
    mov rdi, [rbx + BOOT_STACK_TOP]
    mov rcx, [rbx + BOOT_STACK_LEN]
    sub rdi, rcx
    zero 10
    mov rdi, [rbx + BOOT_HEAP]
    mov rcx, [rbx + BOOT_HEAP_LEN]
    zero 11
    mov rdi, r12
    mov rcx, [rbx + BOOT_WINDOW_LEN]
    zero 12

    # Dirty everything but what the channel needs, then the channel dirties that.
    movabs rax, JUNK
    mov [rip + mark], rax
    lea rdi, [rip + empty]
    mov ecx, 8192
    fill
    mov rdi, [rbx + BOOT_STACK_TOP]
    mov rcx, [rbx + BOOT_STACK_LEN]
    sub rdi, rcx
    sub rcx, 256
    fill
    mov rdi, [rbx + BOOT_HEAP]
    mov rcx, [rbx + BOOT_HEAP_LEN]
    fill
    lea rdi, [r12 + 0x60000]
    mov ecx, 0x20000
    fill
    mov rdi, r12
    mov ecx, 0x800
    fill
    connect
    mov rax, 7
    call_host ask, (ask_end - ask)
2:  expect DATA
    add rsi, HEADER
    cmp byte ptr [rsi + 8], KIND_CALL
    jne 2b
    mov eax, [rsi + 4]
    mov r8d, eax
    copy_frame answer, (answer_end - answer)
    mov [r12 + BODY + 4], r8d
    packet DATA, RPC_PORT, (answer_end - answer)
    descriptor TX, 0, OUT, (HEADER + answer_end - answer)
    offer TX, 0
    ldmxcsr [rip + junk_mxcsr]
    fldpi
    fld1
    fldcw [rip + junk_fcw]
    movabs rax, JUNK
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movq xmm\n, rax
    punpcklqdq xmm\n, xmm\n
    .endr
    cmp r15d, 0x18000000
    jne 1f
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vinsertf128 ymm\n, ymm\n, xmm\n, 1
    .endr
1:  mov rcx, rax
    mov rdx, rax
    mov rsi, rax
    mov rbp, rax
    mov r8, rax
    mov r9, rax
    mov r10, rax
    mov r11, rax
    mov r14, rax
    mov r15, rax
    std
    mov qword ptr [r13 + PARK], 0
    # Not called again.
    exit CODE_NOT_STOPPED
channel
