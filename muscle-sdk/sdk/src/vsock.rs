//! Streams to and from programs outside, with a `vsock-connect` or `vsock-listen` slot each.

use alloc::vec::Vec;

use guest_runtime::cell;
use guest_runtime::vsock::{ConnectionId, VsockError};
use muscle_abi::capability::CapabilityKind;

use crate::{Error, ErrorCode, Result, slot};

/// A stream of bytes, closed when dropped.
#[derive(Debug)]
pub struct Stream {
    id: ConnectionId,
}

/// A port that programs outside connect to.
#[derive(Debug)]
pub struct Listener {
    port: u32,
}

/// Connects to the program that the operator bound to a slot.
///
/// # Errors
/// [`ErrorCode::Denied`] when no slot of this name is granted, [`ErrorCode::Io`] when nobody answers there.
pub fn connect(name: &str) -> Result<Stream> {
    let port = port(name, CapabilityKind::VsockConnect)?;
    let id = cell::with(|link| link.driver.connect(port).map_err(failed))?;
    Ok(Stream { id })
}

/// Listens on the port of a slot.
///
/// # Errors
/// [`ErrorCode::Denied`] when no slot of this name is granted, [`ErrorCode::Io`] when it is listened on already.
pub fn listen(name: &str) -> Result<Listener> {
    let port = port(name, CapabilityKind::VsockListen)?;
    cell::with(|link| link.driver.listen(port).map_err(failed))?;
    Ok(Listener { port })
}

/// Waits until something has arrived for any stream or listener, or for no reason: after the `try_` functions of all
/// of them had nothing.
///
/// # Errors
/// [`ErrorCode::Io`] outside a cell.
pub fn wait() -> Result<()> {
    cell::with(|link| {
        link.driver.wait();
        Ok(())
    })
}

impl Listener {
    /// Waits for the next stream.
    ///
    /// # Errors
    /// [`ErrorCode::Io`] outside a cell.
    pub fn accept(&self) -> Result<Stream> {
        let id = cell::with(|link| link.driver.accept(self.port).map_err(failed))?;
        Ok(Stream { id })
    }

    /// The next stream, if one has come.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub fn try_accept(&self) -> Result<Option<Stream>> {
        let id = cell::with(|link| link.driver.try_accept(self.port).map_err(failed))?;
        Ok(id.map(|id| Stream { id }))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = cell::with(|link| {
            link.driver.stop_listening(self.port);
            Ok(())
        });
    }
}

impl Stream {
    /// Reads what has arrived, waiting for at least one byte; 0 when nothing more will come.
    ///
    /// # Errors
    /// [`ErrorCode::Io`] when the other side ended the stream without saying that it had finished.
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        cell::with(|link| link.driver.read(self.id, to).map_err(failed))
    }

    /// Reads what has arrived; `None` when that is nothing yet.
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub fn try_read(&mut self, to: &mut [u8]) -> Result<Option<usize>> {
        cell::with(|link| link.driver.try_read(self.id, to).map_err(failed))
    }

    /// Reads until the other side says that it has finished.
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match self.read(&mut chunk)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Writes all bytes, waiting while the other side takes no more.
    ///
    /// # Errors
    /// [`ErrorCode::Io`] when the stream has ended.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        cell::with(|link| link.driver.write(self.id, &[bytes]).map_err(failed))
    }

    /// Writes as many bytes as the other side takes now; how many.
    ///
    /// # Errors
    /// As [`Stream::write`].
    pub fn try_write(&mut self, bytes: &[u8]) -> Result<usize> {
        cell::with(|link| link.driver.try_write(self.id, &[bytes], 0).map_err(failed))
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// As [`Stream::write`].
    pub fn finish(&mut self) -> Result<()> {
        cell::with(|link| link.driver.shutdown(self.id, false, true).map_err(failed))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = cell::with(|link| {
            link.driver.close(self.id);
            Ok(())
        });
    }
}

fn port(name: &str, kind: CapabilityKind) -> Result<u32> {
    let grant = slot::named(name, kind)?;
    u32::try_from(grant.detail).map_err(|_| Error::new(ErrorCode::Io, "the grant names no port"))
}

fn failed(error: VsockError) -> Error {
    Error::new(ErrorCode::Io, alloc::format!("{error}"))
}
