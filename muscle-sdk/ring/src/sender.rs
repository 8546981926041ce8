//! The end into which messages go.

use muscle_abi::ring::{Role, UNIT};

use crate::data::units_of;
use crate::end::{Bell, End, Memory};
use crate::error::RingError;

/// The sender's end.
#[derive(Debug)]
pub struct Sender<'a>(End<'a>);

impl<'a> Sender<'a> {
    /// Begins to send, or goes on where this end was in this epoch.
    pub fn new(memory: Memory<'a>) -> Sender<'a> {
        Sender(End::new(Role::Send, memory))
    }

    /// Bytes that a message may have.
    pub fn most(&self) -> usize {
        // The data holds the length's unit, too.
        usize::try_from(self.0.data.units().saturating_sub(1)).unwrap_or(0) * UNIT
    }

    /// Sends a message, which may be empty; waits while there is no room for it.
    ///
    /// # Errors
    /// [`RingError`]; nothing was sent then.
    pub fn send(&mut self, message: &[u8], bell: &mut impl Bell) -> Result<(), RingError> {
        let units = self.units(message)?;
        if let Some(sent) = self.attempt(message, units, bell).transpose() {
            return sent;
        }
        let wait = |end: &mut End<'a>| room(end, units).transpose();
        self.0.wait(bell, wait)?;
        self.put(message, units, bell);
        Ok(())
    }

    /// Sends a message if there is room for it now; false when there is none.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn try_send(&mut self, message: &[u8], bell: &mut impl Bell) -> Result<bool, RingError> {
        let units = self.units(message)?;
        Ok(self.attempt(message, units, bell)?.is_some())
    }

    fn units(&self, message: &[u8]) -> Result<u32, RingError> {
        units_of(message.len())
            .filter(|units| *units <= self.0.data.units())
            .ok_or(RingError::TooLarge {
                length: message.len(),
                most: self.most(),
            })
    }

    fn attempt(&mut self, message: &[u8], units: u32, bell: &mut impl Bell) -> Result<Option<()>, RingError> {
        if room(&mut self.0, units)?.is_none() {
            return Ok(None);
        }
        self.put(message, units, bell);
        Ok(Some(()))
    }

    fn put(&mut self, message: &[u8], units: u32, bell: &mut impl Bell) {
        let at = self.0.position();
        self.0.data.store(at, message.len() as u64);
        self.0.data.copy_in(at.wrapping_add(1), message);
        self.0.advance(units, bell);
    }
}

/// Whether there is room for so many units.
fn room(end: &mut End<'_>, units: u32) -> Result<Option<()>, RingError> {
    if !end.check()? {
        return Ok(None);
    }
    if end.other_has_ended() {
        return Err(RingError::Closed);
    }
    let free = end.data.units().saturating_sub(end.filled()?);
    Ok((units <= free).then_some(()))
}
