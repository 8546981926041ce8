//! A bounded queue of bytes that guest memory can be copied into and out of directly.
//!
//! Memory is taken as the ring fills, in doubling steps up to its limit, and never given back: after the
//! first bytes a connection allocates nothing.

/// Smallest allocation of a ring: most calls are shorter, and idle cells keep theirs.
const FIRST_STEP: usize = 1024;

/// Bytes in order, at most `limit` of them.
#[derive(Debug, Default)]
pub(crate) struct ByteRing {
    /// Storage; its length is the present capacity.
    storage: Vec<u8>,
    /// Index of the oldest byte; below the capacity, or 0.
    head: usize,
    /// Number of bytes; at most the capacity.
    len: usize,
    /// Most bytes at one time.
    limit: usize,
}

impl Clone for ByteRing {
    /// The same bytes; storage only for those that there are.
    fn clone(&self) -> ByteRing {
        match self.len {
            0 => ByteRing::new(self.limit),
            _ => ByteRing {
                storage: self.storage.clone(),
                ..*self
            },
        }
    }
}

impl ByteRing {
    /// An empty ring without storage.
    pub(crate) fn new(limit: usize) -> ByteRing {
        ByteRing {
            limit,
            ..ByteRing::default()
        }
    }

    /// Takes the storage of a ring that is no more needed, if this one has no bytes to keep.
    pub(crate) fn adopt(&mut self, old: ByteRing) {
        if self.is_empty() {
            self.storage = old.storage;
            self.head = 0;
        }
    }

    /// Bytes held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are held.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that fit.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.len)
    }

    /// Most bytes at one time.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Forgets all bytes and keeps the storage.
    pub(crate) fn clear(&mut self) {
        self.head = 0;
        self.len = 0;
    }

    /// Storage for the next `count` bytes (fewer if there is less room), as two runs. [`ByteRing::commit`]
    /// then makes them part of the ring.
    pub(crate) fn space(&mut self, count: usize) -> (&mut [u8], &mut [u8]) {
        let count = count.min(self.room());
        self.grow(self.len.saturating_add(count));
        let capacity = self.storage.len();
        let tail = self.head.saturating_add(self.len);
        let (start, first_len) = if tail >= capacity {
            (tail.saturating_sub(capacity), count)
        } else {
            (tail, count.min(capacity.saturating_sub(tail)))
        };
        let (front, back) = self.storage.split_at_mut_checked(start).unwrap_or_default();
        let first = back.get_mut(..first_len).unwrap_or_default();
        let second = front
            .get_mut(..count.saturating_sub(first_len))
            .unwrap_or_default();
        (first, second)
    }

    /// Appends `count` bytes that were written through [`ByteRing::space`].
    pub(crate) fn commit(&mut self, count: usize) {
        let free = self.storage.len().saturating_sub(self.len);
        self.len = self.len.saturating_add(count.min(free));
    }

    /// The bytes held, oldest first, as two runs.
    pub(crate) fn runs(&self) -> (&[u8], &[u8]) {
        let first_len = self.len.min(self.storage.len().saturating_sub(self.head));
        let first = self
            .storage
            .get(self.head..self.head.saturating_add(first_len))
            .unwrap_or_default();
        let second = self
            .storage
            .get(..self.len.saturating_sub(first_len))
            .unwrap_or_default();
        (first, second)
    }

    /// Drops the `count` oldest bytes; returns how many there were to drop.
    pub(crate) fn consume(&mut self, count: usize) -> usize {
        let count = count.min(self.len);
        self.len = self.len.saturating_sub(count);
        let head = self.head.saturating_add(count);
        self.head = if self.len == 0 {
            0 // keeps short messages in one run
        } else if head >= self.storage.len() {
            head.saturating_sub(self.storage.len())
        } else {
            head
        };
        count
    }

    /// Appends as much of `bytes` as fits; returns how much that was.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let (first, second) = self.space(bytes.len());
        let count = first.len().saturating_add(second.len());
        let (head, tail) = bytes.split_at_checked(first.len()).unwrap_or_default();
        first.copy_from_slice(head);
        if let Some(tail) = tail.get(..second.len()) {
            second.copy_from_slice(tail);
        }
        self.commit(count);
        count
    }

    /// Moves the oldest bytes into `out`; returns how many.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> usize {
        let (first, second) = self.runs();
        let mut count = 0;
        for run in [first, second] {
            let rest = out.get_mut(count..).unwrap_or_default();
            let part = run.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..part), run.get(..part)) {
                to.copy_from_slice(from);
            }
            count = count.saturating_add(part);
        }
        self.consume(count)
    }

    /// Makes the capacity at least `needed`, which is at most the limit.
    fn grow(&mut self, needed: usize) {
        if needed <= self.storage.len() {
            return;
        }
        let capacity = needed
            .checked_next_power_of_two()
            .unwrap_or(self.limit)
            .max(FIRST_STEP)
            .min(self.limit);
        let mut storage = vec![0; capacity];
        let (first, second) = self.runs();
        let (front, back) = storage.split_at_mut_checked(first.len()).unwrap_or_default();
        front.copy_from_slice(first);
        if let Some(place) = back.get_mut(..second.len()) {
            place.copy_from_slice(second);
        }
        self.storage = storage;
        self.head = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn storage_grows_by_doubling_and_stays() {
        let mut ring = ByteRing::new(10_000);
        assert_eq!(ring.storage.len(), 0);
        assert_eq!(ring.write(&[1; 10]), 10);
        assert_eq!(ring.storage.len(), FIRST_STEP);
        assert_eq!(ring.write(&[1; 5000]), 5000);
        assert_eq!(ring.storage.len(), 8192);
        assert_eq!(ring.write(&[1; 50_000]), 10_000 - 5010);
        assert_eq!(ring.storage.len(), 10_000);
        ring.clear();
        assert_eq!((ring.storage.len(), ring.len()), (10_000, 0));
    }

    proptest! {
        #[test]
        fn behaves_as_a_bounded_queue(
            limit in 1usize..6000,
            steps in prop::collection::vec((any::<bool>(), 0usize..5000), 1..60),
        ) {
            let mut ring = ByteRing::new(limit);
            let mut model = VecDeque::new();
            let mut next = 0u8;
            for (write, count) in steps {
                if write {
                    let bytes: Vec<u8> = (0..count).map(|_| { next = next.wrapping_add(1); next }).collect();
                    let taken = ring.write(&bytes);
                    prop_assert_eq!(taken, count.min(limit - model.len()));
                    model.extend(&bytes[..taken]);
                } else {
                    let mut out = vec![0; count];
                    let read = ring.read(&mut out);
                    prop_assert_eq!(read, count.min(model.len()));
                    let expected: Vec<u8> = model.drain(..read).collect();
                    prop_assert_eq!(&out[..read], expected.as_slice());
                }
                let (first, second) = ring.runs();
                let held: Vec<u8> = first.iter().chain(second).copied().collect();
                prop_assert_eq!(held, model.iter().copied().collect::<Vec<u8>>());
                prop_assert!(ring.storage.len() <= limit);
            }
        }
    }
}
