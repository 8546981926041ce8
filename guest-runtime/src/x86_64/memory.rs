//! The `mem*` functions that the compiler calls, which no C library brings here.
//!
//! Written in assembly so that the compiler cannot turn a loop in `memcpy` into a call of `memcpy`. Short blocks are
//! loaded whole before anything is stored, so that `memmove` may share them; long ones use `rep movsb`, which moves
//! whole cache lines on every processor that runs KVM.

use core::arch::naked_asm;

/// Copies `rdx` bytes from `rsi` to `rdi`, which do not overlap, or of which `rdi` is the lower.
#[unsafe(naked)]
#[cfg_attr(cell, unsafe(no_mangle))]
extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 32",
        "ja 4f",
        "cmp rdx, 16",
        "jae 3f",
        "cmp edx, 8",
        "jae 2f",
        "cmp edx, 4",
        "jae 1f",
        "test edx, edx",
        "je 9f",
        // 1 to 3 bytes: the first, the middle and the last
        "movzx ecx, byte ptr [rsi]",
        "movzx r8d, byte ptr [rsi + rdx - 1]",
        "mov r9, rdx",
        "shr r9, 1",
        "movzx r10d, byte ptr [rsi + r9]",
        "mov byte ptr [rdi + r9], r10b",
        "mov byte ptr [rdi], cl",
        "mov byte ptr [rdi + rdx - 1], r8b",
        "ret",
        "1:",
        "mov ecx, dword ptr [rsi]",
        "mov r8d, dword ptr [rsi + rdx - 4]",
        "mov dword ptr [rdi], ecx",
        "mov dword ptr [rdi + rdx - 4], r8d",
        "ret",
        "2:",
        "mov rcx, qword ptr [rsi]",
        "mov r8, qword ptr [rsi + rdx - 8]",
        "mov qword ptr [rdi], rcx",
        "mov qword ptr [rdi + rdx - 8], r8",
        "ret",
        "3:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "ret",
        "4:",
        "cmp rdx, 1024",
        "jae 6f",
        // the last 16 bytes are loaded first and stored last
        "movups xmm1, [rsi + rdx - 16]",
        "lea r8, [rdi + rdx - 16]",
        "5:",
        "movups xmm0, [rsi]",
        "movups [rdi], xmm0",
        "add rsi, 16",
        "add rdi, 16",
        "cmp rdi, r8",
        "jb 5b",
        "movups [r8], xmm1",
        "ret",
        "6:",
        "mov rcx, rdx",
        "rep movsb",
        "9:",
        "ret",
    )
}

/// Copies `rdx` bytes from `rsi` to `rdi`, which may overlap.
#[unsafe(naked)]
#[cfg_attr(cell, unsafe(no_mangle))]
extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    naked_asm!(
        // forwards is right unless `rdi` lies inside the source
        "mov rax, rdi",
        "sub rax, rsi",
        "cmp rax, rdx",
        "jae {memcpy}",
        "cmp rdx, 32",
        "jbe {memcpy}",
        "mov rax, rdi",
        // backwards; the first 16 bytes are loaded first and stored last
        "movups xmm1, [rsi]",
        "2:",
        "movups xmm0, [rsi + rdx - 16]",
        "movups [rdi + rdx - 16], xmm0",
        "sub rdx, 16",
        "cmp rdx, 16",
        "ja 2b",
        "movups [rdi], xmm1",
        "ret",
        memcpy = sym memcpy,
    )
}

/// Sets `rdx` bytes at `rdi` to the low byte of `esi`.
#[unsafe(naked)]
#[cfg_attr(cell, unsafe(no_mangle))]
extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    naked_asm!(
        "mov r8, rdi",
        "movzx eax, sil",
        "cmp rdx, 8",
        "jb 3f",
        "cmp rdx, 512",
        "jae 3f",
        "movabs rcx, 0x0101010101010101",
        "imul rcx, rax",
        "cmp rdx, 16",
        "jb 4f",
        "movq xmm0, rcx",
        "punpcklqdq xmm0, xmm0",
        "lea r9, [rdi + rdx - 16]",
        "2:",
        "movups [rdi], xmm0",
        "add rdi, 16",
        "cmp rdi, r9",
        "jb 2b",
        "movups [r9], xmm0",
        "mov rax, r8",
        "ret",
        "3:",
        "mov rcx, rdx",
        "rep stosb",
        "mov rax, r8",
        "ret",
        "4:",
        "mov qword ptr [rdi], rcx",
        "mov qword ptr [rdi + rdx - 8], rcx",
        "mov rax, r8",
        "ret",
    )
}

/// Compares `rdx` bytes at `rdi` and `rsi`: below, equal to or above zero as the first differing byte.
#[unsafe(naked)]
#[cfg_attr(cell, unsafe(no_mangle))]
extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    naked_asm!(
        "cmp rdx, 8",
        "jb 3f",
        "2:",
        "mov rax, qword ptr [rdi]",
        "mov rcx, qword ptr [rsi]",
        "cmp rax, rcx",
        "jne 5f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "cmp rdx, 8",
        "jae 2b",
        "3:",
        "test rdx, rdx",
        "je 6f",
        "4:",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "sub eax, ecx",
        "jne 7f",
        "inc rdi",
        "inc rsi",
        "dec rdx",
        "jne 4b",
        "6:",
        "xor eax, eax",
        "ret",
        // the first differing byte is the most significant once the bytes are swapped
        "5:",
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "sbb eax, eax",
        "or eax, 1",
        "7:",
        "ret",
    )
}

/// Whether `rdx` bytes at `rdi` and `rsi` differ.
#[unsafe(naked)]
#[cfg_attr(cell, unsafe(no_mangle))]
extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use alloc::vec::Vec;

    use super::{bcmp, memcmp, memcpy, memmove, memset};

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    const LENGTHS: [usize; 22] = [
        0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 100, 511, 512, 1024, 5000,
    ];

    #[test]
    fn memcpy_copies_every_length_and_nothing_more() {
        for len in LENGTHS {
            let from = pattern(len);
            let mut to = alloc::vec![0xEE_u8; len + 32];
            let at = to[16..].as_mut_ptr();
            assert_eq!(memcpy(at, from.as_ptr(), len), at);
            assert_eq!(&to[16..16 + len], &from[..], "{len}");
            assert!(
                to[..16].iter().chain(&to[16 + len..]).all(|byte| *byte == 0xEE),
                "{len}"
            );
        }
    }

    #[test]
    fn memmove_copies_either_way_over_itself() {
        for len in LENGTHS {
            for shift in [1, 3, 8, 15, 16, 17, 40] {
                let whole = pattern(len + shift);
                let mut up = whole.clone();
                let base = up.as_mut_ptr();
                memmove(base.wrapping_add(shift), base, len);
                assert_eq!(&up[shift..], &whole[..len], "up {len} by {shift}");
                let mut down = whole.clone();
                let base = down.as_mut_ptr();
                memmove(base, base.wrapping_add(shift), len);
                assert_eq!(&down[..len], &whole[shift..], "down {len} by {shift}");
            }
        }
    }

    #[test]
    fn memset_fills_every_length_and_nothing_more() {
        for len in LENGTHS {
            let mut to = alloc::vec![0_u8; len + 32];
            let at = to[16..].as_mut_ptr();
            assert_eq!(memset(at, 0x1A5, len), at);
            assert!(to[16..16 + len].iter().all(|byte| *byte == 0xA5), "{len}");
            assert!(
                to[..16].iter().chain(&to[16 + len..]).all(|byte| *byte == 0),
                "{len}"
            );
        }
    }

    #[test]
    fn memcmp_orders_by_the_first_differing_byte() {
        for len in LENGTHS {
            let left = pattern(len);
            assert_eq!(memcmp(left.as_ptr(), left.clone().as_ptr(), len), 0);
            for at in (0..len).step_by(3) {
                let mut right = left.clone();
                right[at] = right[at].wrapping_add(1);
                let expected = left.cmp(&right) as i32;
                assert_eq!(
                    memcmp(left.as_ptr(), right.as_ptr(), len).signum(),
                    expected,
                    "{len} {at}"
                );
                assert_ne!(bcmp(left.as_ptr(), right.as_ptr(), len), 0);
            }
        }
    }
}
