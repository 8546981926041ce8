//! The end out of which messages come.

use muscle_abi::ring::Role;

use crate::data::units_of;
use crate::end::{Bell, End, Memory};
use crate::error::RingError;

/// The receiver's end.
#[derive(Debug)]
pub struct Receiver<'a>(End<'a>);

/// A message that is there: its bytes, and the units that it takes.
#[derive(Debug, Clone, Copy)]
struct Found {
    length: usize,
    units: u32,
}

impl<'a> Receiver<'a> {
    /// Begins to receive, or goes on where this end was in this epoch.
    pub fn new(memory: Memory<'a>) -> Receiver<'a> {
        Receiver(End::new(Role::Receive, memory))
    }

    /// Copies the next message to the front of `buffer` and says how many bytes it has; waits for one.
    ///
    /// # Errors
    /// [`RingError`]. After [`RingError::TooLarge`] the message is still there, for a larger buffer.
    pub fn receive(&mut self, buffer: &mut [u8], bell: &mut impl Bell) -> Result<usize, RingError> {
        let found = match next(&mut self.0)? {
            Some(found) => found,
            None => self.0.wait(bell, |end| next(end).transpose())?,
        };
        self.take(found, buffer, bell)
    }

    /// The same without waiting; `None` when there is no message now.
    ///
    /// # Errors
    /// As [`Receiver::receive`].
    pub fn try_receive(
        &mut self,
        buffer: &mut [u8],
        bell: &mut impl Bell,
    ) -> Result<Option<usize>, RingError> {
        match next(&mut self.0)? {
            Some(found) => self.take(found, buffer, bell).map(Some),
            None => Ok(None),
        }
    }

    fn take(&mut self, found: Found, buffer: &mut [u8], bell: &mut impl Bell) -> Result<usize, RingError> {
        let most = buffer.len();
        let Some(place) = buffer.get_mut(..found.length) else {
            return Err(RingError::TooLarge {
                length: found.length,
                most,
            });
        };
        let at = self.0.position();
        self.0.data.copy_out(at.wrapping_add(1), place);
        self.0.advance(found.units, bell);
        Ok(found.length)
    }
}

/// The message that is next, if there is one. Its length is read here and nowhere else.
fn next(end: &mut End<'_>) -> Result<Option<Found>, RingError> {
    if !end.check()? {
        return Ok(None);
    }
    // Asked first: what it sent before it ended is then seen.
    let has_ended = end.other_has_ended();
    let filled = end.filled()?;
    if filled == 0 {
        return match has_ended {
            true => Err(RingError::Closed),
            false => Ok(None),
        };
    }
    let length = usize::try_from(end.data.load(end.position()));
    let found = length.ok().and_then(|length| {
        let units = units_of(length).filter(|units| *units <= filled)?;
        Some(Found { length, units })
    });
    match found {
        Some(found) => Ok(Some(found)),
        None => Err(end.damage()),
    }
}
