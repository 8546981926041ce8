//! What can be wrong, and whose fault it is.
//!
//! A [`DeviceFault`] is the guest's: data about the cell, never an error of the host. A [`VsockError`] is a
//! caller's on the host. They are never mixed.

use std::fmt;

/// A part of a split queue, virtio 1.2 §2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuePart {
    /// The descriptor table.
    Descriptors,
    /// The available ring.
    Available,
    /// The used ring.
    Used,
}

impl fmt::Display for QueuePart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            QueuePart::Descriptors => "descriptor table",
            QueuePart::Available => "available ring",
            QueuePart::Used => "used ring",
        })
    }
}

/// A rule of the transport that the guest broke. The cell must not run on.
///
/// Addresses are guest-physical, lengths are bytes, queues are 0 (receive), 1 (transmit) and 2 (events).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceFault {
    /// A register must be accessed with one aligned 32-bit load or store (§4.2.2.2).
    #[error("register {offset:#x} was accessed with {width} bytes; registers take aligned accesses of 4")]
    RegisterAccess {
        /// Offset of the access in the register page.
        offset: u64,
        /// Bytes accessed.
        width: usize,
    },
    /// There is no register at this offset.
    #[error("there is no register at {offset:#x}")]
    UnknownRegister {
        /// Offset of the access in the register page.
        offset: u64,
    },
    /// A store to a register that only the device writes.
    #[error("register {offset:#x} is read-only; {value:#x} was written")]
    RegisterReadOnly {
        /// Offset of the register.
        offset: u64,
        /// Value stored.
        value: u32,
    },
    /// A load from a register that only the driver writes.
    #[error("register {offset:#x} is write-only and was read")]
    RegisterWriteOnly {
        /// Offset of the register.
        offset: u64,
    },
    /// A store to a register that the device's status does not allow now (§3.1.1).
    #[error("register {offset:#x} may not be written while the status is {status:#x}")]
    RegisterPhase {
        /// Offset of the register.
        offset: u64,
        /// Device status at the time.
        status: u32,
    },
    /// The status was given bits that are not the driver's (§2.1).
    #[error("status {written:#x} has bits that a driver may not set")]
    StatusBits {
        /// Status written.
        written: u32,
    },
    /// A status bit was cleared without a reset (§2.1.1).
    #[error("status went from {from:#x} to {to:#x} without a reset")]
    StatusCleared {
        /// Status before.
        from: u32,
        /// Status written.
        to: u32,
    },
    /// A status bit was set before the bits it needs (§3.1.1).
    #[error("status went from {from:#x} to {to:#x}, which skips a step")]
    StatusOrder {
        /// Status before.
        from: u32,
        /// Status written.
        to: u32,
    },
    /// An acknowledged interrupt that does not exist.
    #[error("interrupt bits {value:#x} were acknowledged; only 1 and 2 exist")]
    InterruptBits {
        /// Value written.
        value: u32,
    },
    /// A queue that the device does not have was configured or notified.
    #[error("there is no queue {queue}; the device has 3")]
    UnknownQueue {
        /// Number of the queue.
        queue: u32,
    },
    /// A queue's size is zero, no power of two, or too large.
    #[error("queue {queue} was given {size} entries; it takes a power of two up to {most}")]
    QueueSize {
        /// Number of the queue.
        queue: u16,
        /// Entries asked for.
        size: u32,
        /// Most entries the device takes.
        most: u16,
    },
    /// `QueueReady` takes 0 or 1.
    #[error("readiness of queue {queue} was set to {value}")]
    QueueReadyValue {
        /// Number of the queue.
        queue: u16,
        /// Value written.
        value: u32,
    },
    /// A queue was configured again while it was ready.
    #[error("register {offset:#x} of queue {queue} was written while the queue was ready")]
    QueueChangedWhileReady {
        /// Number of the queue.
        queue: u16,
        /// Offset of the register.
        offset: u64,
    },
    /// Part of a queue is not aligned (§2.7).
    #[error("the {part} of queue {queue} is at {address:#x}, which is not a multiple of {alignment}")]
    QueueUnaligned {
        /// Number of the queue.
        queue: u16,
        /// Part of the queue.
        part: QueuePart,
        /// Where it is.
        address: u64,
        /// What its address must be a multiple of.
        alignment: u64,
    },
    /// Part of a queue lies outside the memory that the device may touch.
    #[error("the {part} of queue {queue}, {length} bytes at {address:#x}, is outside the device's memory")]
    QueueOutsideMemory {
        /// Number of the queue.
        queue: u16,
        /// Part of the queue.
        part: QueuePart,
        /// Where it starts, or which address could not be reached.
        address: u64,
        /// Its length.
        length: u64,
    },
    /// A queue was notified before it was ready.
    #[error("queue {queue} was notified and is not ready")]
    NotifiedBeforeReady {
        /// Number of the queue.
        queue: u16,
    },
    /// The available index moved by more than the queue has entries (§2.7.13.3.1).
    #[error("queue {queue} of {size} entries: available index went from {from} to {to}")]
    AvailableJump {
        /// Number of the queue.
        queue: u16,
        /// Index up to which the device had taken chains.
        from: u16,
        /// Index that the driver wrote.
        to: u16,
        /// Entries of the queue.
        size: u16,
    },
    /// A descriptor index is not below the size of the queue.
    #[error("queue {queue} of {size} entries: descriptor {index} does not exist")]
    DescriptorIndex {
        /// Number of the queue.
        queue: u16,
        /// The index.
        index: u16,
        /// Entries of the queue.
        size: u16,
    },
    /// A chain has more descriptors than the queue, so it runs in a circle (§2.7.5.2).
    #[error("queue {queue} of {size} entries: the chain at descriptor {head} runs in a circle")]
    DescriptorLoop {
        /// Number of the queue.
        queue: u16,
        /// First descriptor of the chain.
        head: u16,
        /// Entries of the queue.
        size: u16,
    },
    /// A descriptor has flags other than NEXT and WRITE; indirect ones were not negotiated.
    #[error("queue {queue}: descriptor {index} has flags {flags:#x}; only 1 and 2 were negotiated")]
    DescriptorFlags {
        /// Number of the queue.
        queue: u16,
        /// Index of the descriptor.
        index: u16,
        /// Its flags.
        flags: u16,
    },
    /// A descriptor for the device to write lies in the transmit queue.
    #[error("queue {queue}: descriptor {index} is write-only, and the device only reads there")]
    DescriptorWriteOnly {
        /// Number of the queue.
        queue: u16,
        /// Index of the descriptor.
        index: u16,
    },
    /// A descriptor for the device to read lies in the receive queue.
    #[error("queue {queue}: descriptor {index} is read-only, and the device only writes there")]
    DescriptorReadOnly {
        /// Number of the queue.
        queue: u16,
        /// Index of the descriptor.
        index: u16,
    },
    /// A descriptor's buffer lies outside the memory that the device may touch.
    #[error(
        "queue {queue}: descriptor {index}, {length} bytes at {address:#x}, is outside the device's memory"
    )]
    DescriptorOutsideMemory {
        /// Number of the queue.
        queue: u16,
        /// Index of the descriptor.
        index: u16,
        /// Where its buffer starts.
        address: u64,
        /// Length of its buffer.
        length: u32,
    },
    /// Memory that was reachable a moment ago is not any more.
    #[error("queue {queue}: buffer of {length} bytes at {address:#x} could not be reached")]
    BufferUnreachable {
        /// Number of the queue.
        queue: u16,
        /// Where the buffer starts.
        address: u64,
        /// Length of the part accessed.
        length: u64,
    },
    /// A chain is too short for the packet header, or for the header and one byte in the receive queue.
    #[error("queue {queue}: the chain at descriptor {head} has {length} bytes; {needed} are needed")]
    ChainTooShort {
        /// Number of the queue.
        queue: u16,
        /// First descriptor of the chain.
        head: u16,
        /// Bytes of the chain.
        length: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// A packet says that it carries more bytes than its chain has.
    #[error("the packet at descriptor {head} claims {claimed} bytes; its chain carries {carried}")]
    PayloadBeyondChain {
        /// First descriptor of the chain.
        head: u16,
        /// Length in the packet's header.
        claimed: u32,
        /// Bytes of the chain behind the header.
        carried: u64,
    },
}

/// Something that the host asked for and cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VsockError {
    /// The context id is reserved or has more than 32 bits (§5.10.4).
    #[error("{cid} is no context id of a cell: 0, 1, 2, 2^32-1 and larger ones are reserved")]
    ReservedCid {
        /// The id.
        cid: u64,
    },
    /// The window is not aligned to pages, or does not fit the address space.
    #[error("a window at {address:#x} cannot hold the prepared queues")]
    WindowAddress {
        /// Guest-physical address of the window.
        address: u64,
    },
    /// The driver has not brought the device to `DRIVER_OK`.
    #[error("the device is not running, its status is {status:#x}")]
    NotRunning {
        /// Device status.
        status: u32,
    },
    /// The table of connections is full.
    #[error("there are {connections} connections already")]
    TooManyConnections {
        /// Connections that exist.
        connections: u32,
    },
    /// Buffers for another connection would pass the limit on buffered bytes.
    #[error("a connection reserves {needed} bytes; {reserved} of {most} are reserved already")]
    BufferedBytes {
        /// Bytes a connection reserves.
        needed: u64,
        /// Bytes reserved by the connections that exist.
        reserved: u64,
        /// The limit.
        most: u64,
    },
}
