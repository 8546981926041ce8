//! Ranges of I/O ports, with a `pio` slot each.

use alloc::format;

use guest_runtime::arch;
use muscle_abi::capability::CapabilityKind;

use crate::{Error, ErrorCode, Result, slot};

/// A granted range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    last: u16,
}

/// The ports of a slot.
///
/// # Errors
/// [`ErrorCode::Denied`] when no slot of this name is granted, [`ErrorCode::Invalid`] when it is of another kind.
pub fn ports(name: &str) -> Result<Ports> {
    let grant = slot::named(name, CapabilityKind::Pio)?;
    let port =
        |number: u64| u16::try_from(number).map_err(|_| Error::new(ErrorCode::Io, "the grant names no port"));
    Ok(Ports {
        first: port(grant.detail & 0xFFFF_FFFF)?,
        last: port(grant.detail >> 32)?,
    })
}

impl Ports {
    /// The first port.
    pub fn first(&self) -> u16 {
        self.first
    }

    /// Reads a byte from the port at this offset in the range.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] outside the range.
    pub fn read(&self, offset: u16) -> Result<u8> {
        Ok(arch::read_port(self.port(offset)?))
    }

    /// Writes a byte to the port at this offset in the range.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] outside the range.
    pub fn write(&self, offset: u16, value: u8) -> Result<()> {
        arch::write_port(self.port(offset)?, value);
        Ok(())
    }

    fn port(&self, offset: u16) -> Result<u16> {
        self.first
            .checked_add(offset)
            .filter(|port| *port <= self.last)
            .ok_or_else(|| {
                let Ports { first, last } = self;
                Error::new(
                    ErrorCode::Invalid,
                    format!("port {first:#x} + {offset:#x} is not in {first:#x}–{last:#x}"),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_outside_the_range_are_refused_before_the_instruction() {
        let ports = Ports {
            first: 0x3F8,
            last: 0x3FF,
        };
        assert_eq!(ports.port(7), Ok(0x3FF));
        assert_eq!(ports.port(8).map_err(|error| error.code), Err(ErrorCode::Invalid));
        assert_eq!(
            ports.read(u16::MAX).map_err(|error| error.code),
            Err(ErrorCode::Invalid)
        );
    }
}
