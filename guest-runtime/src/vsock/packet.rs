//! Packet headers (virtio 1.2, §5.10.6).
//!
//! ```text
//!    0  8  source cid     8  8  destination cid
//!   16  4  source port   20  4  destination port
//!   24  4  length        28  2  type     30  2  operation
//!   32  4  flags         36  4  buf_alloc    40  4  fwd_cnt
//! ```

/// Bytes of a header.
pub(crate) const HEADER_SIZE: usize = 44;
/// The type of stream sockets.
pub(crate) const TYPE_STREAM: u16 = 1;
/// Flag of a `SHUTDOWN`: the sender will receive no more.
pub(crate) const SHUTDOWN_RECEIVE: u32 = 1;
/// Flag of a `SHUTDOWN`: the sender will send no more.
pub(crate) const SHUTDOWN_SEND: u32 = 2;

/// What a packet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Operation {
    /// Asks for a connection.
    Request = 1,
    /// Accepts it.
    Response = 2,
    /// Refuses or ends a connection.
    Reset = 3,
    /// Ends one or both directions.
    Shutdown = 4,
    /// Carries bytes.
    ReadWrite = 5,
    /// Tells how much the sender can take.
    CreditUpdate = 6,
    /// Asks for that.
    CreditRequest = 7,
}

impl Operation {
    /// The operation of this number, if there is one.
    pub(crate) fn from_number(number: u16) -> Option<Operation> {
        Some(match number {
            1 => Operation::Request,
            2 => Operation::Response,
            3 => Operation::Reset,
            4 => Operation::Shutdown,
            5 => Operation::ReadWrite,
            6 => Operation::CreditUpdate,
            7 => Operation::CreditRequest,
            _ => return None,
        })
    }
}

/// A packet's header. The operation stays a number, since the other side may send any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    pub(crate) source_cid: u64,
    pub(crate) destination_cid: u64,
    pub(crate) source_port: u32,
    pub(crate) destination_port: u32,
    pub(crate) length: u32,
    pub(crate) kind: u16,
    pub(crate) operation: u16,
    pub(crate) flags: u32,
    pub(crate) buf_alloc: u32,
    pub(crate) fwd_cnt: u32,
}

impl Header {
    /// Writes the header as bytes.
    pub(crate) fn to_bytes(self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        out[0..8].copy_from_slice(&self.source_cid.to_le_bytes());
        out[8..16].copy_from_slice(&self.destination_cid.to_le_bytes());
        out[16..20].copy_from_slice(&self.source_port.to_le_bytes());
        out[20..24].copy_from_slice(&self.destination_port.to_le_bytes());
        out[24..28].copy_from_slice(&self.length.to_le_bytes());
        out[28..30].copy_from_slice(&self.kind.to_le_bytes());
        out[30..32].copy_from_slice(&self.operation.to_le_bytes());
        out[32..36].copy_from_slice(&self.flags.to_le_bytes());
        out[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        out[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        out
    }

    /// Reads a header.
    pub(crate) fn from_bytes(bytes: &[u8; HEADER_SIZE]) -> Header {
        let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let word = |at: usize| u64::from(half(at)) | (u64::from(half(at + 4)) << 32);
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Header {
            source_cid: word(0),
            destination_cid: word(8),
            source_port: half(16),
            destination_port: half(20),
            length: half(24),
            kind: short(28),
            operation: short(30),
            flags: half(32),
            buf_alloc: half(36),
            fwd_cnt: half(40),
        }
    }
}
