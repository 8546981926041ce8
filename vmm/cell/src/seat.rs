//! Where a cell's processor is: with the cell, or lent to a hot thread.

use referee_hv::{Registers, Vcpu};

use crate::error::CellError;

/// The place of a cell's processor.
#[derive(Debug)]
pub(crate) struct Seat(Option<Vcpu>);

impl Seat {
    pub(crate) fn of(vcpu: Vcpu) -> Seat {
        Seat(Some(vcpu))
    }

    /// The processor, unless it is lent.
    pub(crate) fn get(&mut self) -> Result<&mut Vcpu, CellError> {
        self.0.as_mut().ok_or(CellError::Lent)
    }

    /// Takes it away, to lend it.
    pub(crate) fn take(&mut self) -> Result<Vcpu, CellError> {
        self.0.take().ok_or(CellError::Lent)
    }

    /// Has it back.
    pub(crate) fn put(&mut self, vcpu: Vcpu) {
        self.0 = Some(vcpu);
    }

    /// The general registers as of the last stop; zeros while it is lent.
    pub(crate) fn registers(&self) -> Registers {
        self.0.as_ref().map(Vcpu::registers).unwrap_or_default()
    }

    /// Whether the last stop was in ring 3.
    pub(crate) fn in_user_mode(&self) -> bool {
        self.0.as_ref().is_some_and(Vcpu::in_user_mode)
    }

    /// Address of the last page fault; 0 while it is lent.
    pub(crate) fn page_fault_address(&self) -> u64 {
        self.0.as_ref().map_or(0, Vcpu::page_fault_address)
    }
}
