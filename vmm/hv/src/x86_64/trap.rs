//! What the processor pushed onto the trap stack when a muscle raised an exception.

use muscle_abi::vector;

use super::system::{TRAP_PORT, TRAP_STACK_OFFSET};
use crate::error::HvError;
use crate::vm::Vm;

/// An exception that ring 3 raised, with the state it interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// Vector, below [`vector::COUNT`].
    pub vector: u8,
    /// Error code where the vector has one.
    pub error_code: Option<u64>,
    /// Instruction that raised it, or the one after for traps such as `int3`.
    pub rip: u64,
    /// Code segment; the low two bits are the ring.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
}

impl Trap {
    /// The vector that an `out` to `port` by a stub stands for.
    pub fn vector_of_port(port: u16) -> Option<u8> {
        let vector = u8::try_from(port.checked_sub(TRAP_PORT)?).ok()?;
        (vector < vector::COUNT).then_some(vector)
    }

    /// Reads the frame of `vector` from the trap stack of the system slot at guest-physical `system`.
    ///
    /// # Errors
    /// [`HvError::Access`] when the system slot is not memory.
    pub fn read(vm: &Vm, system: u64, vector: u8) -> Result<Trap, HvError> {
        let mut frame = [0u8; 48];
        vm.read(system + TRAP_STACK_OFFSET + 0x1000 - 48, &mut frame)?;
        let word = |index: usize| {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(frame.get(index * 8..index * 8 + 8).unwrap_or(&[0; 8]));
            u64::from_le_bytes(bytes)
        };
        Ok(Trap {
            vector,
            error_code: vector::has_error_code(vector).then(|| word(0)),
            rip: word(1),
            cs: word(2),
            rflags: word(3),
            rsp: word(4),
        })
    }
}
