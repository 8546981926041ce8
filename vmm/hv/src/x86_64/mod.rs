//! What depends on x86-64: page tables, descriptor tables, trap stubs, registers, CPUID.

pub mod cpuid;
pub mod paging;
pub mod registers;
pub(crate) mod resume;
pub mod system;
pub mod trap;
