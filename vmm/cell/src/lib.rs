//! One muscle's life: acquire, load, run, dispatch, limits, end.
//!
//! ```text
//!   Shell::create ─► LoadedCell::load ─► run ─► Stop::{Parked, Waiting, Exited, Faulted, Preempted}
//!                                        │
//!            Vcpu::run ─► Exit ─► dispatch ─► Action      vsock.drain ─► events ─► Rpc │ Sockets
//! ```
//!
//! The rule this crate keeps: whatever the muscle does, [`LoadedCell::run`] comes back with a [`Stop`], and only a
//! failure of the host is an `Err`.
#![forbid(unsafe_code)]

mod cell;
mod dispatch;
mod doorman;
mod error;
mod events;
mod fault;
mod host;
mod hot;
mod lane;
mod layout;
mod load;
mod pio;
mod report;
mod reset;
mod ring;
mod rpc;
mod seat;
mod sleep;
mod snapshot;
mod sockets;
mod spec;
mod template;
mod trap;
mod warmth;

pub use cell::{LoadedCell, Services, Stop, Usage};
pub use doorman::{Door, Doorman};
pub use error::CellError;
pub use fault::MuscleFault;
pub use host::{CallStop, Host, HostFailure, Severed};
pub use hot::HotThread;
pub use layout::{Location, RegionKind, Side};
pub use load::{CheckedImage, Shell};
pub use report::{BacktraceEntry, FaultReport};
pub use ring::{Ring, RingEnd, RingHold};
pub use rpc::Answer;
pub use snapshot::{Damaged, Snapshot, SnapshotError, Unfit, Unsound};
pub use sockets::{Sockets, Wake};
pub use spec::{CellLimits, CellSpec, ClockAccess};
pub use template::{Heirs, Template};
