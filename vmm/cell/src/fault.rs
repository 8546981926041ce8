//! What a muscle did wrong, and the report that an author can mend it by.
//!
//! A fault is data about a cell, never an error of the host: it ends that cell alone, is audited, and has
//! its own exit code.

use muscle_abi::frame::FrameError;
use muscle_abi::vector;
use referee_hv::x86_64::trap::Trap;
use referee_vsock::DeviceFault;
use thiserror::Error;

/// The rule that a muscle broke.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MuscleFault {
    /// It raised a processor exception.
    #[error("exception {}", describe_trap(.0))]
    Exception(Trap),
    /// It executed `syscall`; there is no kernel in a cell.
    #[error("`syscall` at {0:#x}: a cell has no kernel to call")]
    Syscall(u64),
    /// It used an I/O port that no grant covers.
    #[error("{} of {width} bytes at I/O port {port:#x}, which no grant covers", if *.write { "write" } else { "read" })]
    Port {
        /// The port.
        port: u16,
        /// Bytes at once.
        width: u8,
        /// Whether it wrote.
        write: bool,
    },
    /// It touched mapped addresses that have no memory behind them.
    #[error("{} of {length} bytes at guest-physical {gpa:#x}, which has no memory", if *.write { "store" } else { "load" })]
    NoMemory {
        /// Guest-physical address.
        gpa: u64,
        /// Bytes at once.
        length: usize,
        /// Whether it stored.
        write: bool,
    },
    /// It used the heap's reservation beyond what it had been given.
    #[error("{} at heap offset {offset:#x}, but only {given:#x} bytes are given; GROW asks for more", if *.write { "store" } else { "load" })]
    HeapBeyondGrant {
        /// Offset into the heap.
        offset: u64,
        /// Bytes that have memory.
        given: u64,
        /// Whether it stored.
        write: bool,
    },
    /// It used the control page otherwise than the ABI says.
    #[error("{} of {length} bytes at control doorbell {offset:#x}; only aligned 8-byte stores to a known one are allowed", if *.write { "store" } else { "load" })]
    Doorbell {
        /// Offset in the page.
        offset: u64,
        /// Bytes at once.
        length: usize,
        /// Whether it stored.
        write: bool,
    },
    /// It asked to be woken at a time without a clock grant.
    #[error("parked until a time, which needs a `clock` grant")]
    ParkWithoutClock,
    /// It waited for, or woke, the other side of a ring that it does not have.
    #[error("doorbell of a ring with {0:#x}, which is the handle of none of its rings")]
    RingHandle(u64),
    /// It broke a rule of virtio-vsock.
    #[error("vsock device: {0}")]
    Channel(DeviceFault),
    /// It sent something that is no RPC frame.
    #[error("RPC frame: {}", describe_frame(.0))]
    Frame(FrameError),
    /// It answered a call that nobody made.
    #[error("RPC answer to call {0}, which was not made or is answered already")]
    UnexpectedAnswer(u32),
    /// It opened a second RPC connection, or one from nowhere.
    #[error("a second connection to the RPC port")]
    SecondRpcConnection,
    /// It wrote more to the console than its limit.
    #[error("console output beyond the limit of {limit} bytes")]
    OutputLimit {
        /// The limit in bytes.
        limit: u64,
    },
    /// It was refused so often that the records of it are a burden.
    #[error("refused more than {limit} times")]
    DenialLimit {
        /// Refusals allowed.
        limit: u32,
    },
    /// It exited with a code that is not its own to use.
    #[error("exit code {0} is outside 0 to 99")]
    ExitCode(u64),
    /// It gave up by itself: a panic, or no memory left.
    #[error("aborted: {0}")]
    Aborted(String),
    /// It parked although nothing can wake it.
    #[error("parked with nothing left that could wake it")]
    ParkedForEver,
    /// Its wall-clock time is over.
    #[error("still running after its deadline of {0} ms")]
    Deadline(u64),
    /// Its CPU time is used up.
    #[error("used up its CPU limit of {0} ms")]
    CpuLimit(u64),
    /// The processor could not even deliver an exception.
    #[error("triple fault")]
    TripleFault,
    /// KVM met an instruction or access that it cannot emulate.
    #[error("KVM could not emulate what it did (sub-error {0})")]
    Emulation(u32),
    /// It stopped the vCPU in a way that no muscle can by following the ABI.
    #[error("unexpected exit {0}")]
    UnexpectedExit(&'static str),
}

impl MuscleFault {
    /// A stable name for JSON and the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            MuscleFault::Exception(trap) => match trap.vector {
                0 => "divide-error",
                1 => "debug",
                3 => "breakpoint",
                4 => "overflow",
                6 => "invalid-opcode",
                7 => "device-not-available",
                11 => "segment-not-present",
                12 => "stack-segment",
                13 => "general-protection",
                14 => "page-fault",
                16 => "x87-floating-point",
                17 => "alignment-check",
                19 => "simd-floating-point",
                _ => "exception",
            },
            MuscleFault::Syscall(_) => "syscall",
            MuscleFault::Port { .. } => "port",
            MuscleFault::NoMemory { .. } => "no-memory",
            MuscleFault::HeapBeyondGrant { .. } => "heap-beyond-grant",
            MuscleFault::Doorbell { .. } => "doorbell",
            MuscleFault::ParkWithoutClock => "park-without-clock",
            MuscleFault::RingHandle(_) => "ring-handle",
            MuscleFault::Channel(_) => "channel",
            MuscleFault::Frame(_) => "frame",
            MuscleFault::UnexpectedAnswer(_) => "unexpected-answer",
            MuscleFault::SecondRpcConnection => "second-rpc-connection",
            MuscleFault::OutputLimit { .. } => "output-limit",
            MuscleFault::DenialLimit { .. } => "denial-limit",
            MuscleFault::ExitCode(_) => "exit-code",
            MuscleFault::Aborted(_) => "aborted",
            MuscleFault::ParkedForEver => "parked-for-ever",
            MuscleFault::Deadline(_) => "deadline",
            MuscleFault::CpuLimit(_) => "cpu-limit",
            MuscleFault::TripleFault => "triple-fault",
            MuscleFault::Emulation(_) => "emulation",
            MuscleFault::UnexpectedExit(_) => "unexpected-exit",
        }
    }

    /// Whether a limit of time ended the cell, which has an exit code of its own.
    pub fn is_time_limit(&self) -> bool {
        matches!(self, MuscleFault::Deadline(_) | MuscleFault::CpuLimit(_))
    }
}

impl From<DeviceFault> for MuscleFault {
    fn from(fault: DeviceFault) -> MuscleFault {
        MuscleFault::Channel(fault)
    }
}

impl From<FrameError> for MuscleFault {
    fn from(fault: FrameError) -> MuscleFault {
        MuscleFault::Frame(fault)
    }
}

fn describe_trap(trap: &Trap) -> String {
    let (mnemonic, name) = vector::name(trap.vector);
    let mut text = format!("{mnemonic} ({name}) at {:#x}", trap.rip);
    if let Some(code) = trap.error_code.filter(|_| trap.vector == 14) {
        let doing = match code & 0b1_0010 {
            0b1_0000 | 0b1_0010 => "execute",
            0b0_0010 => "write",
            _ => "read",
        };
        let why = if code & 1 == 0 {
            "not mapped"
        } else {
            "not allowed"
        };
        text.push_str(&format!(", {doing}: {why}"));
    } else if let Some(code) = trap.error_code {
        text.push_str(&format!(", error code {code:#x}"));
    }
    text
}

fn describe_frame(error: &FrameError) -> String {
    match error {
        FrameError::UnknownKind(kind) => format!("unknown kind {kind}"),
        FrameError::ReservedNotZero => "a reserved byte is not zero".into(),
        FrameError::NameTooLong(name, length) => format!("name of {name} bytes in a body of {length}"),
        FrameError::Misshapen => "a call without name, or an answer with a name or handle".into(),
        FrameError::TooLarge(length, most) => format!("{length} bytes, at most {most} are allowed"),
    }
}
