//! Exit → action: a plain function, one arm for every way a vCPU can stop.
//!
//! Nothing is guessed: an address, a doorbell or an exit that this file does not know is a fault.

use muscle_abi::{PAGE_SIZE, doorbell};
use referee_hv::x86_64::trap::Trap;
use referee_hv::{Exit, Memory};
use referee_vsock::Vsock;

use crate::fault::MuscleFault;
use crate::layout::{CONTROL_GPA, HEAP_GPA, HEAP_MAX, VSOCK_GPA};

/// What to do about an exit, after the queues are drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Enter again.
    Resume,
    /// A signal stopped the vCPU; look at the limits.
    Interrupted,
    /// Serve the granted port access that raised this.
    Emulate(Trap),
    /// A control doorbell.
    Ring(Bell),
}

/// A control doorbell with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bell {
    /// Wait; until a time of the monotonic clock unless 0.
    Park { until_ns: u64 },
    /// Wait for the first call, and promise what [`muscle_abi::doorbell::READY`] says.
    Ready,
    /// Done.
    Exit { code: u64 },
    /// Given up; text in the mailbox.
    Abort { length: u64 },
    /// More heap.
    Grow { pages: u64 },
    /// Drain and go on.
    Yield,
    /// Wait for the other side of a ring.
    RingWait { handle: u64 },
    /// Wake the other side of a ring.
    RingWake { handle: u64 },
}

/// Decides about every exit but a trap, which needs more of the cell's state.
pub(crate) fn dispatch(
    exit: Exit<'_>,
    vsock: &mut Vsock,
    view: &Memory,
    heap_bytes: u64,
) -> Result<Action, MuscleFault> {
    match exit {
        Exit::MmioWrite { address, data } if in_page(address, CONTROL_GPA) => {
            bell(address - CONTROL_GPA, data).map(Action::Ring)
        }
        Exit::MmioRead { address, data } if in_page(address, CONTROL_GPA) => Err(MuscleFault::Doorbell {
            offset: address - CONTROL_GPA,
            length: data.len(),
            write: false,
        }),
        Exit::MmioWrite { address, data } if in_page(address, VSOCK_GPA) => {
            vsock.mmio_write(address - VSOCK_GPA, data, view)?;
            Ok(Action::Resume)
        }
        Exit::MmioRead { address, data } if in_page(address, VSOCK_GPA) => {
            vsock.mmio_read(address - VSOCK_GPA, data)?;
            Ok(Action::Resume)
        }
        Exit::MmioWrite { address, data } => Err(no_memory(address, data.len(), true, heap_bytes)),
        Exit::MmioRead { address, data } => Err(no_memory(address, data.len(), false, heap_bytes)),
        Exit::Interrupted => Ok(Action::Interrupted),
        Exit::PortOut { .. } => Err(MuscleFault::UnexpectedExit(
            "an `out` by ring 0 to no stub's port",
        )),
        Exit::PortIn { .. } => Err(MuscleFault::UnexpectedExit("an `in` by ring 0")),
        Exit::Halt => Err(MuscleFault::UnexpectedExit("a `hlt` by ring 0")),
        Exit::Shutdown => Err(MuscleFault::TripleFault),
        Exit::InternalError { suberror } => Err(MuscleFault::Emulation(suberror)),
        Exit::MemoryFault => Err(MuscleFault::UnexpectedExit("an access that KVM refused")),
        Exit::EntryFailed { .. } => Err(MuscleFault::UnexpectedExit("a failed entry")),
        Exit::Unexpected { .. } => Err(MuscleFault::UnexpectedExit("of an unknown kind")),
    }
}

fn in_page(address: u64, page: u64) -> bool {
    (page..page + PAGE_SIZE).contains(&address)
}

fn bell(offset: u64, data: &[u8]) -> Result<Bell, MuscleFault> {
    let misuse = MuscleFault::Doorbell {
        offset,
        length: data.len(),
        write: true,
    };
    let Ok(bytes) = <[u8; 8]>::try_from(data) else {
        return Err(misuse);
    };
    let value = u64::from_le_bytes(bytes);
    match offset {
        doorbell::PARK => Ok(Bell::Park { until_ns: value }),
        doorbell::EXIT => Ok(Bell::Exit { code: value }),
        doorbell::ABORT => Ok(Bell::Abort { length: value }),
        doorbell::GROW => Ok(Bell::Grow { pages: value }),
        doorbell::YIELD => Ok(Bell::Yield),
        doorbell::READY => Ok(Bell::Ready),
        doorbell::RING_WAIT => Ok(Bell::RingWait { handle: value }),
        doorbell::RING_WAKE => Ok(Bell::RingWake { handle: value }),
        _ => Err(misuse),
    }
}

fn no_memory(gpa: u64, length: usize, write: bool, given: u64) -> MuscleFault {
    if (HEAP_GPA..HEAP_GPA + HEAP_MAX).contains(&gpa) {
        return MuscleFault::HeapBeyondGrant {
            offset: gpa - HEAP_GPA,
            given,
            write,
        };
    }
    MuscleFault::NoMemory { gpa, length, write }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_doorbell_has_its_meaning_and_no_other_offset_has_one() {
        let value = 7u64.to_le_bytes();
        for offset in 0..PAGE_SIZE {
            let expected = match offset {
                0x00 => Ok(Bell::Park { until_ns: 7 }),
                0x08 => Ok(Bell::Exit { code: 7 }),
                0x10 => Ok(Bell::Abort { length: 7 }),
                0x18 => Ok(Bell::Grow { pages: 7 }),
                0x20 => Ok(Bell::Yield),
                0x30 => Ok(Bell::Ready),
                0x38 => Ok(Bell::RingWait { handle: 7 }),
                0x40 => Ok(Bell::RingWake { handle: 7 }),
                _ => Err(MuscleFault::Doorbell {
                    offset,
                    length: 8,
                    write: true,
                }),
            };
            assert_eq!(bell(offset, &value), expected);
        }
    }

    #[test]
    fn doorbells_take_eight_bytes_only() {
        for length in [1usize, 2, 4] {
            assert_eq!(
                bell(doorbell::EXIT, &[0; 8][..length]),
                Err(MuscleFault::Doorbell {
                    offset: 8,
                    length,
                    write: true
                })
            );
        }
    }
}
