//! What the muscles of one thread used and how long each use took, for whoever measures calls.
//!
//! A cell runs on the thread that advances it, and so do the acts that it asks for; so what is noted here while a call advances is the
//! call's. Off unless a thread asks for it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Uses that are noted at once; a muscle may make any number.
const MAX: usize = 64;

/// One use of a capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Its name as `console.out`; that of one that was refused is the muscle's own word, and is not kept.
    pub name: Option<String>,
    /// When it began.
    pub began: Instant,
    /// How long the host took.
    pub lasted: Duration,
}

thread_local! {
    static NOTED: RefCell<Option<Vec<Use>>> = const { RefCell::new(None) };
}

/// Notes uses on this thread from now on, until [`take`].
pub fn watch() {
    NOTED.with_borrow_mut(|noted| *noted = Some(Vec::new()));
}

/// What was noted since [`watch`], the first 64; nothing is noted any more.
pub fn take() -> Vec<Use> {
    NOTED.with_borrow_mut(|noted| noted.take().unwrap_or_default())
}

/// When a use begins, if anybody wants to know.
pub(crate) fn begin() -> Option<Instant> {
    NOTED.with_borrow(|noted| {
        noted
            .as_ref()
            .is_some_and(|noted| noted.len() < MAX)
            .then(Instant::now)
    })
}

/// Notes a use that [`begin`] gave the beginning of.
pub(crate) fn note(began: Option<Instant>, name: Option<&str>) {
    let Some(began) = began else {
        return;
    };
    NOTED.with_borrow_mut(|noted| {
        if let Some(noted) = noted {
            noted.push(Use {
                name: name.map(str::to_owned),
                began,
                lasted: began.elapsed(),
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_noted_only_while_somebody_watches_and_only_so_many() {
        note(begin(), Some("before"));
        watch();
        for _ in 0..2 * MAX {
            note(begin(), Some("console.out"));
        }
        let noted = take();
        assert_eq!(noted.len(), MAX);
        assert!(noted.iter().all(|one| one.name.as_deref() == Some("console.out")));
        note(begin(), Some("after"));
        assert_eq!(take(), []);
    }
}
