//! A cell that nobody calls gives its memory to the host's swap, and has it fetched before it is called again.

use crate::cell::LoadedCell;

impl LoadedCell {
    /// Moves its memory out of the way, where the host has somewhere to put it. It may be called or reset all the same.
    pub fn page_out(&self) {
        self.machine.vm.page_out();
    }

    /// Begins to fetch what [`LoadedCell::page_out`] moved away.
    pub fn page_in(&self) {
        self.machine.vm.page_in();
    }
}
