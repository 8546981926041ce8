//! Why a message did not pass.

use core::fmt;

/// Why a message was not sent or not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingError {
    /// The other side has ended, and there is nothing left to receive.
    Closed,
    /// One of the two cells began anew, and the ring was emptied: messages may be lost. Said once; the next call goes on.
    Reset,
    /// The other side wrote what no honest one writes. Said until the ring is emptied.
    Damaged,
    /// The message is larger than the ring, or than the place for it. It stays where it is.
    TooLarge {
        /// Its bytes.
        length: usize,
        /// Bytes that there is place for.
        most: usize,
    },
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::Closed => f.write_str("the other side of the ring has ended"),
            RingError::Reset => f.write_str("the ring was emptied, as one of its cells began anew"),
            RingError::Damaged => f.write_str("the other side of the ring broke its rules"),
            RingError::TooLarge { length, most } => {
                write!(f, "a message of {length} bytes, and there is place for {most}")
            }
        }
    }
}

impl core::error::Error for RingError {}
