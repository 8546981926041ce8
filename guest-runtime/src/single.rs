//! Global state of a program that has one thread.

use core::cell::{RefCell, RefMut};

/// A global that one thread uses.
///
/// Borrowing is checked, so that code which comes back to itself (a panic while the state is in use, a handler
/// called with it held) gets `None` instead of a second reference.
pub(crate) struct Single<T>(RefCell<T>);

// SAFETY: a cell has one vCPU and no interrupt or signal ever runs Rust code in it
// (the VMM injects none, see `docs/abi.md`), so no second thread exists. The type is compiled for cells only.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    /// Wraps the first value.
    pub(crate) const fn new(value: T) -> Single<T> {
        Single(RefCell::new(value))
    }

    /// Borrows the value, or `None` while it is borrowed.
    pub(crate) fn borrow(&self) -> Option<RefMut<'_, T>> {
        self.0.try_borrow_mut().ok()
    }
}
