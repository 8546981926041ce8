//! The safe, small face of KVM. All unsafe code of the host is in this crate.
//!
//! A [`Vm`] owns guest memory, one [`Vcpu`] runs in it, and every stop of the vCPU is one [`Exit`]. What
//! depends on the processor's architecture is under [`x86_64`]; what depends on the kind of KVM is [`flavour`].
//!
//! The rule this crate keeps: nothing a guest writes into its registers or memory can make a function
//! here panic, and no reference into guest memory is ever handed out.
#![allow(unsafe_code)]

pub mod alarm;
mod common;
pub mod error;
pub mod exit;
pub mod flavour;
pub mod kick;
pub mod kvm;
mod mapping;
mod namespaces;
mod page_out;
pub mod probe;
pub mod process;
mod shared;
mod stop_signals;
mod system_call;
mod touched;
pub mod vcpu;
pub mod vm;
pub mod x86_64;

pub use alarm::CpuMark;
pub use common::Common;
pub use error::HvError;
pub use exit::Exit;
pub use kick::{Kicker, RemoteKick, Runner, VcpuThread};
pub use kvm::Kvm;
pub use mapping::{Memory, Piece, Whole};
pub use shared::{Shared, SharedAccess, SharedWord};
pub use vcpu::{FreezePlaces, Frozen, Registers, Stopped, Vcpu, vcpus_move_cheaply};
pub use vm::Vm;
