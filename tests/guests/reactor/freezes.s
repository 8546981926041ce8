# Breaks no rule: leaves registers and memory in a state of its own, waits for a call, and finds all of it as it was left, or exits with a
# code that says what is not; then makes everything dirty and answers with null. A life that begins at the wait must let it pass again.
# expect: exit 0
# style: reactor
# exports: f
# call: f []
# stdout: null\n
.include "muscle.inc"
.include "channel.inc"
.equ JUNK, 0x5a5a5a5a5a5a5a5a
.equ MARK, 0x1122334455667788
.equ HEAP_MARK, 0x3000
.equ WINDOW_MARK, 0x70000
.equ STACK_MARK, 0x2800
    .section .rodata
answer:
    .long 1, 0
    .byte 1, 0, 0, 0
    .long 0
    .quad 0
    .byte 0xf6
answer_end:
own_mxcsr:
    .long 0x3f80
junk_mxcsr:
    .long 0x7f80
own_fcw:
    .word 0x0e7f
junk_fcw:
    .word 0x0c7f
    .data
    .balign 8
mark:
    .quad JUNK
has_avx:
    .long 0
has_bases:
    .long 0
    .bss
    .balign 4096
empty:
    .space 8192
kept:
    .space 4096
    .text
# Ends with `code` unless two are the same.
.macro same a, b, code
    cmp \a, \b
    je 904f
    exit \code
904:
.endm
# Ends with `code` unless all `rcx` bytes, a multiple of eight, at rdi are zero.
.macro zero code
    shr rcx, 3
    xor eax, eax
    repe scasq
    je 905f
    exit \code
905:
.endm
# Fills rcx bytes, a multiple of eight, at rdi.
.macro fill
    shr rcx, 3
    movabs rax, JUNK
    rep stosq
.endm
begin
    # CPUID 1, ECX bits 27 and 28: AVX, and the operating mode has it.
    push rbx
    mov eax, 1
    xor ecx, ecx
    cpuid
    and ecx, 0x18000000
    mov [rip + has_avx], ecx
    # CPUID 7, EBX bit 0: ring 3 may set the bases of FS and GS.
    mov eax, 7
    xor ecx, ecx
    cpuid
    and ebx, 1
    mov [rip + has_bases], ebx
    pop rbx
    movabs rax, MARK
    mov [rip + mark], rax
    mov [rip + kept], rax
    mov rdi, [rbx + BOOT_HEAP]
    mov [rdi + HEAP_MARK], rax
    mov [rsp - STACK_MARK], rax
    mov [r12 + WINDOW_MARK], rax
    connect
    ldmxcsr [rip + own_mxcsr]
    fldpi
    fld1
    fldcw [rip + own_fcw]
    movabs rax, MARK
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movq xmm\n, rax
    punpcklqdq xmm\n, xmm\n
    inc rax
    .endr
    cmp dword ptr [rip + has_avx], 0x18000000
    jne 1f
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vinsertf128 ymm\n, ymm\n, xmm\n, 1
    .endr
1:  .irp register, rbp, r8, r9, r10, r11, r15
    mov \register, rax
    inc rax
    .endr
    std

    expect DATA
    movabs rax, MARK + 16
    .irp register, rbp, r8, r9, r10, r11, r15
    cmp \register, rax
    jne 8f
    inc rax
    .endr
    jmp 1f
8:  exit 1
1:  mov r8, rsi
    pushfq
    pop rax
    cld
    test eax, 0x400
    jnz 1f
    exit 2
1:  sub rsp, 16
    fnstcw [rsp]
    same "word ptr [rsp]", 0x0e7f, 3
    stmxcsr [rsp]
    same "dword ptr [rsp]", 0x3f80, 4
    fnstsw ax
    and ax, 0x3800
    same ax, 0x3000, 5
    fstp qword ptr [rsp]
    movabs rax, 0x3ff0000000000000
    same [rsp], rax, 6
    movabs rdx, MARK
    cmp dword ptr [rip + has_avx], 0x18000000
    jne 2f
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    sub rsp, 32
    vmovdqu [rsp], ymm\n
    cmp [rsp + 16], rdx
    jne 8f
    cmp [rsp + 24], rdx
    jne 8f
    add rsp, 32
    inc rdx
    .endr
    movabs rdx, MARK
    jmp 2f
8:  exit 7
2:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movq rax, xmm\n
    cmp rax, rdx
    jne 8f
    psrldq xmm\n, 8
    movq rax, xmm\n
    cmp rax, rdx
    jne 8f
    inc rdx
    .endr
    jmp 1f
8:  exit 8
1:  add rsp, 16
    cmp dword ptr [rip + has_bases], 1
    jne 1f
    rdfsbase rax
    same rax, 0, 20
    rdgsbase rax
    same rax, 0, 21
1:  # Memory that was written, and memory that was not.
    movabs rdx, MARK
    same [rip + mark], rdx, 9
    same [rip + kept], rdx, 10
    mov rdi, [rbx + BOOT_HEAP]
    same [rdi + HEAP_MARK], rdx, 11
    same [rsp - STACK_MARK], rdx, 12
    same [r12 + WINDOW_MARK], rdx, 13
    mov ecx, HEAP_MARK
    zero 14
    mov rdi, [rbx + BOOT_HEAP]
    mov rcx, [rbx + BOOT_HEAP_LEN]
    sub rcx, HEAP_MARK + 8
    add rdi, HEAP_MARK + 8
    zero 15
    lea rdi, [rip + empty]
    mov ecx, 8192
    zero 16
    mov rdi, [rbx + BOOT_STACK_TOP]
    sub rdi, [rbx + BOOT_STACK_LEN]
    lea rcx, [rsp - STACK_MARK]
    sub rcx, rdi
    and rcx, -8
    zero 17
    lea rdi, [r12 + 0x60000]
    mov ecx, WINDOW_MARK - 0x60000
    zero 18
    lea rdi, [r12 + WINDOW_MARK + 8]
    mov rcx, [rbx + BOOT_WINDOW_LEN]
    sub rcx, WINDOW_MARK + 8
    zero 19

    # Dirty all of it.
    mov r8d, [r8 + HEADER + 4]
    movabs rax, JUNK
    mov [rip + mark], rax
    lea rdi, [rip + empty]
    mov ecx, 8192 + 4096
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
    copy_frame answer, (answer_end - answer)
    mov [r12 + BODY + 4], r8d
    packet DATA, RPC_PORT, (answer_end - answer)
    descriptor TX, 0, OUT, (HEADER + answer_end - answer)
    offer TX, 0
    cmp dword ptr [rip + has_bases], 1
    jne 1f
    movabs rax, 0x1234567000
    wrfsbase rax
    wrgsbase rax
1:  fninit
    ldmxcsr [rip + junk_mxcsr]
    fldcw [rip + junk_fcw]
    movabs rax, JUNK
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movq xmm\n, rax
    punpcklqdq xmm\n, xmm\n
    .endr
    cmp dword ptr [rip + has_avx], 0x18000000
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
    mov qword ptr [r13 + PARK], 0
    # Not called again.
    exit CODE_NOT_STOPPED
channel
