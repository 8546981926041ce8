//! Packet headers of virtio-vsock, virtio 1.2 §5.10.6.
//!
//! ```text
//!   offset  size  field                     offset  size  field
//!        0     8  src_cid                       28     2  type: 1 stream
//!        8     8  dst_cid                       30     2  op
//!       16     4  src_port                      32     4  flags
//!       20     4  dst_port                      36     4  buf_alloc
//!       24     4  len                           40     4  fwd_cnt
//! ```

/// Bytes of a header.
pub const HEADER_SIZE: usize = 44;
/// Type of stream sockets, the only one offered.
pub const TYPE_STREAM: u16 = 1;
/// Flag of [`Op::Shutdown`]: the sender will receive no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// Flag of [`Op::Shutdown`]: the sender will send no more.
pub const SHUTDOWN_SEND: u32 = 2;

/// What a packet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Op {
    /// Asks for a connection.
    Request = 1,
    /// Accepts a connection.
    Response = 2,
    /// Ends a connection, refuses one, or confirms that one has ended.
    Reset = 3,
    /// Tells that the sender will not send, or not receive, any more.
    Shutdown = 4,
    /// Carries bytes.
    ReadWrite = 5,
    /// Tells the sender's credit.
    CreditUpdate = 6,
    /// Asks for the receiver's credit.
    CreditRequest = 7,
}

impl Op {
    /// The operation with this number, if there is one.
    pub const fn from_number(number: u16) -> Option<Op> {
        Some(match number {
            1 => Op::Request,
            2 => Op::Response,
            3 => Op::Reset,
            4 => Op::Shutdown,
            5 => Op::ReadWrite,
            6 => Op::CreditUpdate,
            7 => Op::CreditRequest,
            _ => return None,
        })
    }

    /// The operation's number.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// A header as it was on the wire; nothing in it has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Context id of the sender.
    pub src_cid: u64,
    /// Context id of the receiver.
    pub dst_cid: u64,
    /// Port of the sender.
    pub src_port: u32,
    /// Port of the receiver.
    pub dst_port: u32,
    /// Bytes behind the header.
    pub len: u32,
    /// Type of socket, see [`TYPE_STREAM`].
    pub kind: u16,
    /// Number of an [`Op`].
    pub op: u16,
    /// Flags of the operation.
    pub flags: u32,
    /// Bytes that the sender can buffer for this connection.
    pub buf_alloc: u32,
    /// Bytes that the sender has taken out of that buffer since the connection began, modulo 2³².
    pub fwd_cnt: u32,
}

impl Header {
    /// Reads a header.
    pub fn from_bytes(bytes: &[u8; HEADER_SIZE]) -> Header {
        Header {
            src_cid: u64::from_le_bytes(field(bytes, 0)),
            dst_cid: u64::from_le_bytes(field(bytes, 8)),
            src_port: u32::from_le_bytes(field(bytes, 16)),
            dst_port: u32::from_le_bytes(field(bytes, 20)),
            len: u32::from_le_bytes(field(bytes, 24)),
            kind: u16::from_le_bytes(field(bytes, 28)),
            op: u16::from_le_bytes(field(bytes, 30)),
            flags: u32::from_le_bytes(field(bytes, 32)),
            buf_alloc: u32::from_le_bytes(field(bytes, 36)),
            fwd_cnt: u32::from_le_bytes(field(bytes, 40)),
        }
    }

    /// Writes the header as bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0u8; HEADER_SIZE];
        out[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        out[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        out[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        out[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        out[24..28].copy_from_slice(&self.len.to_le_bytes());
        out[28..30].copy_from_slice(&self.kind.to_le_bytes());
        out[30..32].copy_from_slice(&self.op.to_le_bytes());
        out[32..36].copy_from_slice(&self.flags.to_le_bytes());
        out[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        out[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        out
    }
}

/// The `N` bytes at `at`; every caller's `at + N` is at most [`HEADER_SIZE`].
fn field<const N: usize>(bytes: &[u8; HEADER_SIZE], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_field_has_its_place() {
        let header = Header {
            src_cid: 0x0706_0504_0302_0100,
            dst_cid: 0x0f0e_0d0c_0b0a_0908,
            src_port: 0x1312_1110,
            dst_port: 0x1716_1514,
            len: 0x1b1a_1918,
            kind: 0x1d1c,
            op: 0x1f1e,
            flags: 0x2322_2120,
            buf_alloc: 0x2726_2524,
            fwd_cnt: 0x2b2a_2928,
        };
        let expected: Vec<u8> = (0..44).collect();
        assert_eq!(header.to_bytes().as_slice(), expected.as_slice());
    }

    #[test]
    fn operations_are_found_by_number() {
        assert_eq!(Op::from_number(0), None);
        assert_eq!(Op::from_number(8), None);
        for number in 1..=7 {
            assert_eq!(Op::from_number(number).map(Op::number), Some(number));
        }
    }

    proptest! {
        #[test]
        fn any_header_survives_a_round_trip(low in any::<[u8; 32]>(), high in any::<[u8; 12]>()) {
            let mut bytes = [0u8; HEADER_SIZE];
            bytes[..32].copy_from_slice(&low);
            bytes[32..].copy_from_slice(&high);
            prop_assert_eq!(Header::from_bytes(&bytes).to_bytes(), bytes);
        }
    }
}
