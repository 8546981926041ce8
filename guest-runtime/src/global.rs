//! State that lives as long as the muscle, for authors who write no unsafe code.

#[cfg(cell)]
use core::cell::RefCell;

/// A value in a `static` that functions may change.
///
/// ```
/// static CALLS: guest_runtime::Global<u64> = guest_runtime::Global::new(0);
/// let number = CALLS.with(|calls| {
///     *calls += 1;
///     *calls
/// });
/// assert_eq!(number, 1);
/// ```
#[derive(Debug)]
pub struct Global<T> {
    #[cfg(cell)]
    value: RefCell<T>,
    #[cfg(not(cell))]
    value: std::sync::Mutex<T>,
}

// SAFETY: a cell has one thread, see `single`; in other builds the value is behind a mutex.
#[cfg(cell)]
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// Wraps the first value.
    pub const fn new(value: T) -> Global<T> {
        Global {
            #[cfg(cell)]
            value: RefCell::new(value),
            #[cfg(not(cell))]
            value: std::sync::Mutex::new(value),
        }
    }

    /// Runs `f` with the value.
    ///
    /// # Panics
    /// When `f` comes back here: in a cell at once, elsewhere perhaps by waiting for ever.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(cell)]
        {
            f(&mut self.value.borrow_mut())
        }
        #[cfg(not(cell))]
        {
            f(&mut self
                .value
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner))
        }
    }
}
