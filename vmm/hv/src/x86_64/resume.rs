//! The page by which a frozen muscle goes on: vector state that no register page can carry, and code that loads it.
//!
//! ```text
//!   0x000   the state of x87, SSE and later, as XRSTOR reads it (Intel SDM volume 1, §13.4)
//!   0xe00   fninit                       forgets the last x87 instruction, which XRSTOR leaves on some processors
//!           xrstor64 [0x000]             everything that the state does not hold is initialised
//!           mov rax, [0xe48]; mov rdx, [0xe50]; jmp [0xe40]
//!   0xe40   rip, rax, rdx of the muscle
//! ```
//! The code runs in ring 3, in a page that the muscle may read and execute and that nobody writes while it runs. KVM_SET_XSAVE does much the
//! same and costs an ioctl, a quarter of an exit here; XRSTOR in the guest costs nothing that can be measured. And it leaves no
//! component out: the mask in rax and rdx asks for all that the processor has enabled, also those that a kind of KVM lets ring 3 use
//! and does not know of. For the same reason the state is taken by XSAVE in the guest ([`SAVES`]), before the page holds the above.

use kvm_bindings::kvm_regs;

use super::cpuid::XCR0_WANTED;

/// Bits of rflags that ring 3 sets as it likes: CF, PF, AF, ZF, SF, DF, OF, AC, ID. Above all not IOPL, which would let it use ports.
const USER_FLAGS: u64 = 0x24_0cd5;
/// Bit of rflags that is always set.
const FIXED_FLAG: u64 = 2;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Most bytes that the state may have.
pub(crate) const STATE_MAX: usize = 0xe00;
/// Code that stores the state at rdi, of the components in rax and rdx, and rings the doorbell at rsi: `xsave64 [rdi]; mov [rsi], rdi`.
pub(crate) const SAVES: [u8; 7] = [0x48, 0x0f, 0xae, 0x27, 0x48, 0x89, 0x3e];
/// Code that touches the pages whose addresses stand at rsi, rcx of them to write and r8 to read, and rings the doorbell at rdx. It changes
/// no byte of them.
pub(crate) const TOUCHES: [u8; 40] = [
    0xe3, 0x10, // 0: jrcxz 1f
    0x48, 0x8b, 0x3e, // mov rdi, [rsi]
    0xf0, 0x80, 0x0f, 0x00, // lock or byte ptr [rdi], 0
    0x48, 0x83, 0xc6, 0x08, // add rsi, 8
    0x48, 0xff, 0xc9, // dec rcx
    0xeb, 0xee, // jmp 0b
    0x4d, 0x85, 0xc0, // 1: test r8, r8
    0x74, 0x0e, // jz 2f
    0x48, 0x8b, 0x3e, // mov rdi, [rsi]
    0x8a, 0x07, // mov al, [rdi]
    0x48, 0x83, 0xc6, 0x08, // add rsi, 8
    0x49, 0xff, 0xc8, // dec r8
    0xeb, 0xed, // jmp 1b
    0x48, 0x89, 0x12, // 2: mov [rdx], rdx
];
/// Where the addresses are in the page, and how many find room.
pub(crate) const TOUCHED: usize = 64;
pub(crate) const TOUCHED_MAX: usize = (PAGE - TOUCHED) / 8;
/// General registers, instruction pointer and flags.
pub(crate) const WORDS: usize = 18;
/// What is kept of the state: all that cells may have. Anything else is in its initial state when a muscle goes on.
pub(crate) const KEPT: u64 = XCR0_WANTED;
/// Where the code begins.
const CODE: usize = 0xe00;
const RIP: usize = 0xe40;
const RAX: usize = 0xe48;
const RDX: usize = 0xe50;
/// Header of the state: bitmap of the components that it holds; 56 bytes that must be zero follow.
const XSTATE_BV: usize = 512;
const HEADER_END: usize = 576;

/// Everything that makes a stopped muscle go on: registers, and the page above.
#[derive(Debug, Clone)]
pub(crate) struct Resume {
    /// Registers at the page's code.
    pub(crate) registers: kvm_regs,
    /// The page.
    pub(crate) page: Box<[u8; PAGE]>,
}

impl Resume {
    /// For a state that [`SAVES`] stored and a page that the muscle has mapped at `page_va`.
    pub(crate) fn new(registers: &kvm_regs, state: &[u8; STATE_MAX], page_va: u64) -> Resume {
        let mut page = Box::new([0u8; PAGE]);
        put(&mut *page, 0, state);
        let held = u64_at(state, XSTATE_BV) & KEPT;
        put(&mut *page, XSTATE_BV, &held.to_le_bytes());
        put(&mut *page, XSTATE_BV + 8, &[0; HEADER_END - XSTATE_BV - 8]);
        put(&mut *page, CODE, &code());
        put(&mut *page, RIP, &registers.rip.to_le_bytes());
        put(&mut *page, RAX, &registers.rax.to_le_bytes());
        put(&mut *page, RDX, &registers.rdx.to_le_bytes());
        let all = u64::from(u32::MAX);
        Resume {
            registers: kvm_regs {
                rip: page_va.wrapping_add(CODE as u64),
                rax: all,
                rdx: all,
                ..*registers
            },
            page,
        }
    }

    /// From parts that anybody may have made up: whatever they are, the muscle goes on in ring 3, and what it cannot load is a fault of its own.
    pub(crate) fn of_parts(words: &[u64; WORDS], state: &[u8; STATE_MAX], page_va: u64) -> Resume {
        let [
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
        ] = *words;
        let registers = kvm_regs {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags: rflags & USER_FLAGS | FIXED_FLAG,
        };
        Resume::new(&registers, state, page_va)
    }

    /// The general registers as the muscle has them.
    pub(crate) fn own_registers(&self) -> kvm_regs {
        kvm_regs {
            rip: u64_at(&*self.page, RIP),
            rax: u64_at(&*self.page, RAX),
            rdx: u64_at(&*self.page, RDX),
            ..self.registers
        }
    }

    /// The same as numbers, without flags that are not the muscle's.
    pub(crate) fn words(&self) -> [u64; WORDS] {
        let own = self.own_registers();
        [
            own.rax,
            own.rbx,
            own.rcx,
            own.rdx,
            own.rsi,
            own.rdi,
            own.rsp,
            own.rbp,
            own.r8,
            own.r9,
            own.r10,
            own.r11,
            own.r12,
            own.r13,
            own.r14,
            own.r15,
            own.rip,
            own.rflags & USER_FLAGS | FIXED_FLAG,
        ]
    }

    /// The state of x87, SSE and later.
    pub(crate) fn state(&self) -> &[u8] {
        self.page.get(..STATE_MAX).unwrap_or_default()
    }
}

/// The instructions, with their distances to the data.
fn code() -> Vec<u8> {
    let mut code = vec![0xdb, 0xe3]; // fninit
    for (instruction, target) in [
        (&[0x48, 0x0f, 0xae, 0x2d][..], 0), // xrstor64 [rip + …]
        (&[0x48, 0x8b, 0x05], RAX),
        (&[0x48, 0x8b, 0x15], RDX),
        (&[0xff, 0x25], RIP),
    ] {
        code.extend(instruction);
        let next = CODE + code.len() + 4;
        let distance = i32::try_from(target).unwrap_or(0) - i32::try_from(next).unwrap_or(0);
        code.extend(distance.to_le_bytes());
    }
    code
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_the_state_and_where_to_go_on() {
        let registers = kvm_regs {
            rip: 0x1111,
            rax: 0x2222,
            rdx: 0x3333,
            rsp: 0x4444,
            ..kvm_regs::default()
        };
        let mut state = [0; STATE_MAX];
        put(&mut state, 0, &0x37f_u64.to_le_bytes());
        put(&mut state, XSTATE_BV, &[7, 2, 0, 0, 0, 0, 0, 0, 9]);
        let resume = Resume::new(&registers, &state, 0x7000_0000);
        let page = &resume.page[..];
        assert_eq!(u64_at(page, 0), 0x37f);
        assert_eq!(u64_at(page, XSTATE_BV), 0b111, "without what cells may not have");
        assert_eq!(u64_at(page, XSTATE_BV + 8), 0);
        assert_eq!(
            [RIP, RAX, RDX].map(|at| u64_at(page, at)),
            [0x1111, 0x2222, 0x3333]
        );
        assert_eq!(resume.registers.rip, 0x7000_0000 + CODE as u64);
        assert_eq!(resume.registers.rsp, 0x4444);
        assert_eq!(resume.own_registers(), registers);
        // The last instruction jumps by way of the word at RIP.
        let code = code();
        assert!(CODE + code.len() <= RIP);
        let distance = i32::from_le_bytes(code[code.len() - 4..].try_into().expect("four bytes"));
        assert_eq!(usize::try_from(distance), Ok(RIP - CODE - code.len()));
    }

    #[test]
    fn parts_that_were_made_up_give_no_more_than_ring_3_has() {
        let mut state = [0xff; STATE_MAX];
        let resume = Resume::of_parts(&[u64::MAX; WORDS], &state, 0x7000_0000);
        // Interrupts, IOPL, single steps, nested tasks, virtual 8086 mode: none of them.
        assert_eq!(resume.registers.rflags, USER_FLAGS | FIXED_FLAG);
        assert_eq!(USER_FLAGS & 0x1b_7300, 0);
        assert_eq!(
            resume.registers.rip,
            0x7000_0000 + CODE as u64,
            "only by the page's code"
        );
        assert_eq!(u64_at(&*resume.page, XSTATE_BV), KEPT);
        assert_eq!(u64_at(&*resume.page, XSTATE_BV + 8), 0, "no compact form");
        assert_eq!(resume.page[CODE..CODE + code().len()], code());
        // What was taken and is given back is the same.
        state = [0; STATE_MAX];
        state[0] = 0x7f;
        let words: [u64; WORDS] = std::array::from_fn(|at| at as u64 * 0x101);
        let first = Resume::of_parts(&words, &state, 0x7000_0000);
        let second = Resume::of_parts(&first.words(), &state, 0x7000_0000);
        assert_eq!(first.page, second.page);
        assert_eq!(first.registers, second.registers);
        assert_eq!(first.state()[0], 0x7f);
    }
}
