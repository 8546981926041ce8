//! The data: words that wrap around, reached by position. No position is outside of it.

use core::sync::atomic::{AtomicU64, Ordering};

use muscle_abi::ring::UNIT;

/// A ring's data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Data<'a> {
    /// `words` is a power of two long.
    pub(crate) fn new(words: &'a [AtomicU64]) -> Data<'a> {
        Data { words }
    }

    /// Units that it has.
    pub(crate) fn units(self) -> u32 {
        u32::try_from(self.words.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn load(self, position: u32) -> u64 {
        let [one, _] = self.at(position, 1);
        one.first()
            .map_or(0, |word| u64::from_le(word.load(Ordering::Relaxed)))
    }

    pub(crate) fn store(self, position: u32, value: u64) {
        let [one, _] = self.at(position, 1);
        if let Some(word) = one.first() {
            word.store(value.to_le(), Ordering::Relaxed);
        }
    }

    /// Copies bytes in from `position` on; the rest of the last unit is zero. No more than the data has.
    pub(crate) fn copy_in(self, position: u32, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<UNIT>();
        let [first, second] = self.at(position, whole.len());
        let (left, right) = whole.split_at(first.len().min(whole.len()));
        for (words, chunks) in [(first, left), (second, right)] {
            for (word, chunk) in words.iter().zip(chunks) {
                word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
            }
        }
        if !rest.is_empty() {
            let mut last = [0; UNIT];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            let position = position.wrapping_add(units_of_whole(whole.len()));
            self.store(position, u64::from_le_bytes(last));
        }
    }

    /// Copies bytes out from `position` on. No more than the data has.
    pub(crate) fn copy_out(self, position: u32, bytes: &mut [u8]) {
        let (whole, rest) = bytes.as_chunks_mut::<UNIT>();
        let count = whole.len();
        let [first, second] = self.at(position, count);
        let (left, right) = whole.split_at_mut(first.len().min(count));
        for (words, chunks) in [(first, left), (second, right)] {
            for (word, chunk) in words.iter().zip(chunks) {
                *chunk = word.load(Ordering::Relaxed).to_ne_bytes();
            }
        }
        if !rest.is_empty() {
            let last = self.load(position.wrapping_add(units_of_whole(count)));
            rest.iter_mut()
                .zip(last.to_le_bytes())
                .for_each(|(to, from)| *to = from);
        }
    }

    /// The `count` words from `position` on: up to the end, and what there is of them at the beginning.
    fn at(self, position: u32, count: usize) -> [&'a [AtomicU64]; 2] {
        let start = usize::try_from(position).unwrap_or(0) & self.words.len().wrapping_sub(1);
        let (before, after) = self.words.split_at(start.min(self.words.len()));
        let first = after.get(..count).unwrap_or(after);
        let left = count - first.len();
        [first, before.get(..left).unwrap_or(before)]
    }
}

/// Units of a message of `length` bytes, its length's word included; `None` when indices cannot count them.
pub(crate) fn units_of(length: usize) -> Option<u32> {
    u32::try_from(length.div_ceil(UNIT)).ok()?.checked_add(1)
}

fn units_of_whole(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
