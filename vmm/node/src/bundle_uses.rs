//! Which bundles are in use: by a deployment under its name, or by one that was replaced or removed and whose calls are not over. A bundle that
//! nobody uses any more is removed from the disk.
//!
//! Nothing of this is on the disk: what a crash leaves there is swept at the next start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

/// Counts uses. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct BundleUses(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    counts: Mutex<BTreeMap<String, usize>>,
    /// Hears of bundles that nobody uses any more.
    unused: mpsc::UnboundedSender<String>,
}

/// A use, until it is dropped.
#[derive(Debug)]
pub(crate) struct BundleUse {
    uses: BundleUses,
    digest: String,
}

impl BundleUses {
    /// With whoever is to hear of bundles that nobody uses any more; they may be used again by then.
    pub(crate) fn new() -> (BundleUses, mpsc::UnboundedReceiver<String>) {
        let (unused, hears) = mpsc::unbounded_channel();
        let shared = Shared {
            counts: Mutex::default(),
            unused,
        };
        (BundleUses(Arc::new(shared)), hears)
    }

    pub(crate) fn begin(&self, digest: &str) -> BundleUse {
        *self.lock().entry(digest.to_owned()).or_default() += 1;
        BundleUse {
            uses: self.clone(),
            digest: digest.to_owned(),
        }
    }

    pub(crate) fn is_used(&self, digest: &str) -> bool {
        self.lock().contains_key(digest)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BundleUse {
    fn drop(&mut self) {
        let mut counts = self.uses.lock();
        let left = counts
            .get(&self.digest)
            .map_or(0, |count| count.saturating_sub(1));
        if left > 0 {
            counts.insert(self.digest.clone(), left);
            return;
        }
        counts.remove(&self.digest);
        drop(counts);
        // When the service ends nobody hears it; the next start sweeps.
        let _ = self.uses.0.unused.send(self.digest.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_says_so_and_no_other() {
        let (uses, mut unused) = BundleUses::new();
        let (first, second, other) = (uses.begin("a"), uses.begin("a"), uses.begin("b"));
        drop(first);
        assert!(unused.try_recv().is_err());
        assert!(uses.is_used("a"));
        drop(second);
        assert_eq!(unused.try_recv().as_deref(), Ok("a"));
        assert!(!uses.is_used("a") && uses.is_used("b"));
        let again = uses.begin("a");
        drop(other);
        assert_eq!(unused.try_recv().as_deref(), Ok("b"));
        assert!(uses.is_used("a"));
        drop(again);
    }
}
