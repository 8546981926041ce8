//! Rings: where the boot block says that one is becomes words that both cells use by atomic access alone.
//!
//! Whatever the other cell writes there, and whenever, is looked at by [`muscle_ring`], which has no unsafe code.

use muscle_abi::capability::GrantEntry;
use muscle_abi::frame::ErrorCode;
use muscle_abi::ring::{Place, Role};
use muscle_ring::RingError;

use crate::Global;
use crate::doorbell;
use crate::rpc::CallError;

/// The end of a ring by which a muscle sends. Dropped and opened again it goes on where it was.
#[derive(Debug)]
pub struct Sender {
    ring: muscle_ring::Sender<'static>,
    open: Open,
}

/// The end of a ring by which a muscle receives. Dropped and opened again it goes on where it was.
#[derive(Debug)]
pub struct Receiver {
    ring: muscle_ring::Receiver<'static>,
    open: Open,
}

impl Sender {
    /// Opens the end that a grant names.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] when it is one to receive by, or open already; [`ErrorCode::Io`] outside a cell.
    pub fn open(grant: &GrantEntry) -> Result<Sender, CallError> {
        let (memory, open) = open(grant, Role::Send)?;
        Ok(Sender {
            ring: muscle_ring::Sender::new(memory),
            open,
        })
    }

    /// See [`muscle_ring::Sender::most`].
    pub fn most(&self) -> usize {
        self.ring.most()
    }

    /// See [`muscle_ring::Sender::send`].
    ///
    /// # Errors
    /// [`RingError`].
    pub fn send(&mut self, message: &[u8]) -> Result<(), RingError> {
        self.ring.send(message, &mut self.open)
    }

    /// See [`muscle_ring::Sender::try_send`].
    ///
    /// # Errors
    /// [`RingError`].
    pub fn try_send(&mut self, message: &[u8]) -> Result<bool, RingError> {
        self.ring.try_send(message, &mut self.open)
    }
}

impl Receiver {
    /// Opens the end that a grant names.
    ///
    /// # Errors
    /// As [`Sender::open`].
    pub fn open(grant: &GrantEntry) -> Result<Receiver, CallError> {
        let (memory, open) = open(grant, Role::Receive)?;
        Ok(Receiver {
            ring: muscle_ring::Receiver::new(memory),
            open,
        })
    }

    /// See [`muscle_ring::Receiver::receive`].
    ///
    /// # Errors
    /// [`RingError`].
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, RingError> {
        self.ring.receive(buffer, &mut self.open)
    }

    /// See [`muscle_ring::Receiver::try_receive`].
    ///
    /// # Errors
    /// [`RingError`].
    pub fn try_receive(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, RingError> {
        self.ring.try_receive(buffer, &mut self.open)
    }
}

impl From<RingError> for CallError {
    fn from(error: RingError) -> CallError {
        let code = match error {
            RingError::TooLarge { .. } => ErrorCode::TooLarge,
            RingError::Closed | RingError::Reset | RingError::Damaged => ErrorCode::Io,
        };
        CallError::new(code, alloc::format!("{error}"))
    }
}

/// The right to use an end, which one value has at a time, and its doorbells.
#[derive(Debug)]
struct Open {
    handle: u64,
}

/// Ends that are open: a bit for each slot, by the number in the low half of its handle.
static OPENED: Global<u64> = Global::new(0);

impl Open {
    fn new(handle: u64) -> Option<Open> {
        let open = Open { handle };
        let is_new = OPENED.with(|opened| {
            let before = *opened;
            *opened |= open.bit();
            before & open.bit() == 0
        });
        if !is_new {
            core::mem::forget(open);
            return None;
        }
        Some(open)
    }

    fn bit(&self) -> u64 {
        1u64.wrapping_shl((self.handle & 0x3f) as u32)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPENED.with(|opened| *opened &= !self.bit());
    }
}

impl muscle_ring::Bell for Open {
    fn wait(&mut self) {
        doorbell::ring_wait(self.handle);
    }

    fn wake(&mut self) {
        doorbell::ring_wake(self.handle);
    }
}

fn open(grant: &GrantEntry, role: Role) -> Result<(muscle_ring::Memory<'static>, Open), CallError> {
    let invalid = |text| CallError::new(ErrorCode::Invalid, text);
    let place = Place::from_detail(grant.detail).ok_or(invalid("the grant names no ring"))?;
    if place.role != role {
        return Err(invalid(match role {
            Role::Send => "this end of the ring is to receive by",
            Role::Receive => "this end of the ring is to send by",
        }));
    }
    let memory = memory(&place)?;
    let open = Open::new(grant.handle).ok_or(invalid("this end of the ring is open already"))?;
    Ok((memory, open))
}

#[cfg(not(cell))]
fn memory(_: &Place) -> Result<muscle_ring::Memory<'static>, CallError> {
    Err(CallError::new(
        ErrorCode::Io,
        "this program does not run in a cell",
    ))
}

#[cfg(cell)]
fn memory(place: &Place) -> Result<muscle_ring::Memory<'static>, CallError> {
    use muscle_abi::PAGE_SIZE;
    use muscle_abi::ring::{DATA, HOST_PAGE, RECEIVER_PAGE, SENDER_PAGE};
    let words = |offset, length| words(place.base + place.role.place_of(offset), length);
    Ok(muscle_ring::Memory {
        receiver: words(RECEIVER_PAGE, PAGE_SIZE),
        host: words(HOST_PAGE, PAGE_SIZE),
        sender: words(SENDER_PAGE, PAGE_SIZE),
        data: words(DATA, place.data),
    })
}

#[cfg(cell)]
fn words(address: u64, length: u64) -> &'static [core::sync::atomic::AtomicU64] {
    use crate::size::size;
    // SAFETY: a grant of a ring names `length` bytes at `address`, whole pages, which are mapped as long as the cell lives. Both cells
    // access them by atomic words alone; where this one may only read, `muscle_ring` only does.
    unsafe { core::slice::from_raw_parts(doorbell::pointer(address).cast(), size(length) / 8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_open_once_until_it_is_dropped() {
        let first = Open::new(5 << 32 | 3).expect("is the first");
        assert!(Open::new(5 << 32 | 3).is_none());
        let _other = Open::new(5 << 32 | 4).expect("is another");
        drop(first);
        assert!(Open::new(5 << 32 | 3).is_some());
    }

    #[test]
    fn without_a_cell_there_is_no_ring_and_no_end_of_another_role() {
        let grant = |role| GrantEntry {
            handle: 1 << 32,
            kind: 13,
            name_len: 0,
            detail: Place {
                base: 0x1000,
                role,
                data: 4096,
            }
            .to_detail(),
            name: [0; 32],
        };
        let code = |result: Result<(), CallError>| result.expect_err("cannot be").code;
        assert_eq!(code(Sender::open(&grant(Role::Send)).map(drop)), ErrorCode::Io);
        assert_eq!(
            code(Sender::open(&grant(Role::Receive)).map(drop)),
            ErrorCode::Invalid
        );
        assert_eq!(
            code(Receiver::open(&grant(Role::Send)).map(drop)),
            ErrorCode::Invalid
        );
    }
}
