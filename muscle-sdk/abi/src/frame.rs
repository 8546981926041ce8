//! RPC frames: the symmetric calls that run over the stream to port [`crate::channel::RPC_PORT`].
//!
//! ```text
//!   offset  size  field
//!        0     4  length of name and payload together
//!        4     4  id, chosen by the caller; the answer repeats it
//!        8     1  kind: 0 call, 1 return, 2 error
//!        9     1  length of the name; 0 unless the kind is call
//!       10     2  zero
//!       12     4  zero
//!       16     8  handle of the grant that the call uses; 0 unless a muscle calls the host
//!       24     …  name (UTF-8), then payload (CBOR)
//! ```
//!
//! The header has a fixed form so that the host can check the grant before it decodes anything the muscle
//! chose. A call's payload is a CBOR array of its arguments, or a map from their names; a return's
//! payload is one CBOR value; an error's is `[code, message]` with an [`ErrorCode`]. Each side numbers its own calls.

/// Size of a frame's header in bytes.
pub const HEADER_SIZE: usize = 24;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Asks the other side to do something.
    Call = 0,
    /// Answers a call with its result.
    Return = 1,
    /// Answers a call with an error.
    Error = 2,
}

/// A frame's header, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is.
    pub kind: FrameKind,
    /// The caller's number for the call.
    pub id: u32,
    /// Grant the call uses, or 0.
    pub handle: u64,
    /// Bytes of the name.
    pub name_len: u8,
    /// Bytes of the payload.
    pub payload_len: u32,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Byte 8 is no [`FrameKind`]; carries it.
    UnknownKind(u8),
    /// A reserved byte is not zero.
    ReservedNotZero,
    /// The name is longer than name and payload together; carries both lengths.
    NameTooLong(u8, u32),
    /// A call without a name, or an answer with a name or a handle.
    Misshapen,
    /// Name and payload together are larger than the receiver takes; carries both.
    TooLarge(u32, u32),
}

impl FrameHeader {
    /// Reads a header of a frame of at most `max_body` bytes of name and payload.
    ///
    /// # Errors
    /// [`FrameError`], one variant per rule.
    pub fn parse(bytes: &[u8; HEADER_SIZE], max_body: u32) -> Result<FrameHeader, FrameError> {
        let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (length, id) = (half(0), half(4));
        let kind = match bytes[8] {
            0 => FrameKind::Call,
            1 => FrameKind::Return,
            2 => FrameKind::Error,
            other => return Err(FrameError::UnknownKind(other)),
        };
        let name_len = bytes[9];
        if bytes[10..16] != [0; 6] {
            return Err(FrameError::ReservedNotZero);
        }
        let handle = u64::from(half(16)) | (u64::from(half(20)) << 32);
        if length > max_body {
            return Err(FrameError::TooLarge(length, max_body));
        }
        let payload_len = length
            .checked_sub(u32::from(name_len))
            .ok_or(FrameError::NameTooLong(name_len, length))?;
        let is_call = kind == FrameKind::Call;
        if is_call == (name_len == 0) || (!is_call && handle != 0) {
            return Err(FrameError::Misshapen);
        }
        Ok(FrameHeader {
            kind,
            id,
            handle,
            name_len,
            payload_len,
        })
    }

    /// Writes the header as bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0u8; HEADER_SIZE];
        let length = self.payload_len.saturating_add(u32::from(self.name_len));
        out[0..4].copy_from_slice(&length.to_le_bytes());
        out[4..8].copy_from_slice(&self.id.to_le_bytes());
        out[8] = self.kind as u8;
        out[9] = self.name_len;
        out[16..24].copy_from_slice(&self.handle.to_le_bytes());
        out
    }

    /// Bytes of name and payload together.
    pub fn body_len(&self) -> usize {
        self.name_len as usize + self.payload_len as usize
    }
}

/// Why a call failed, as its answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorCode {
    /// No grant allows this.
    Denied = 1,
    /// The handle was forged, belongs to another cell, or was revoked.
    StaleHandle = 2,
    /// No such file or entry.
    NotFound = 3,
    /// It exists already.
    Exists = 4,
    /// An argument has a value that is not allowed.
    Invalid = 5,
    /// The grant's quota is used up.
    Quota = 6,
    /// The host could not do it.
    Io = 7,
    /// No function of this name.
    UnknownFunction = 8,
    /// The payload is not what the function takes.
    BadArguments = 9,
    /// The function ran and returned an error.
    Application = 10,
    /// Argument or result is larger than allowed.
    TooLarge = 11,
    /// Too much waits already; it may be tried again.
    Busy = 12,
    /// No answer came in time.
    Timeout = 13,
    /// Another muscle is to delegate what the slot has, and none has, or it took it back.
    NotDelegated = 14,
}

impl ErrorCode {
    /// The code with this number, if there is one.
    pub const fn from_number(number: u32) -> Option<ErrorCode> {
        Some(match number {
            1 => ErrorCode::Denied,
            2 => ErrorCode::StaleHandle,
            3 => ErrorCode::NotFound,
            4 => ErrorCode::Exists,
            5 => ErrorCode::Invalid,
            6 => ErrorCode::Quota,
            7 => ErrorCode::Io,
            8 => ErrorCode::UnknownFunction,
            9 => ErrorCode::BadArguments,
            10 => ErrorCode::Application,
            11 => ErrorCode::TooLarge,
            12 => ErrorCode::Busy,
            13 => ErrorCode::Timeout,
            14 => ErrorCode::NotDelegated,
            _ => return None,
        })
    }

    /// The code's name as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorCode::Denied => "denied",
            ErrorCode::StaleHandle => "stale handle",
            ErrorCode::NotFound => "not found",
            ErrorCode::Exists => "exists",
            ErrorCode::Invalid => "invalid",
            ErrorCode::Quota => "quota",
            ErrorCode::Io => "input/output",
            ErrorCode::UnknownFunction => "unknown function",
            ErrorCode::BadArguments => "bad arguments",
            ErrorCode::Application => "application",
            ErrorCode::TooLarge => "too large",
            ErrorCode::Busy => "busy",
            ErrorCode::Timeout => "timeout",
            ErrorCode::NotDelegated => "not delegated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: FrameHeader = FrameHeader {
        kind: FrameKind::Call,
        id: 7,
        handle: 0x1_0000_0002,
        name_len: 3,
        payload_len: 5,
    };

    #[test]
    fn header_survives_a_round_trip() {
        assert_eq!(FrameHeader::parse(&CALL.to_bytes(), 8), Ok(CALL));
    }

    #[test]
    fn each_rule_has_its_own_refusal() {
        let broken = |at: usize, value: u8| {
            let mut bytes = CALL.to_bytes();
            bytes[at] = value;
            FrameHeader::parse(&bytes, 8)
        };
        assert_eq!(broken(8, 3), Err(FrameError::UnknownKind(3)));
        assert_eq!(broken(10, 1), Err(FrameError::ReservedNotZero));
        assert_eq!(broken(15, 1), Err(FrameError::ReservedNotZero));
        assert_eq!(broken(9, 9), Err(FrameError::NameTooLong(9, 8)));
        assert_eq!(broken(9, 0), Err(FrameError::Misshapen));
        assert_eq!(broken(8, 1), Err(FrameError::Misshapen));
        assert_eq!(broken(0, 9), Err(FrameError::TooLarge(9, 8)));
    }
}
