//! Handles: slot number in the low half, generation in the high half.
//!
//! Generations start at random, so that a handle of another cell, or one made up, does not fit; taking a grant
//! back moves its generation on, so that every copy of the handle is stale at once.

/// What a cell holds, by handle.
#[derive(Debug)]
pub struct GrantTable<T> {
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    held: Option<T>,
}

/// A handle that names no grant: forged, another cell's, or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleHandle(pub u64);

impl<T> GrantTable<T> {
    /// A table of these grants, each with a generation of its own. Generation 0 becomes 1, so that handle 0 is
    /// never good.
    pub fn new(grants: impl IntoIterator<Item = (u32, T)>) -> GrantTable<T> {
        let entry = |(generation, held): (u32, T)| Entry {
            generation: generation.max(1),
            held: Some(held),
        };
        GrantTable {
            entries: grants.into_iter().map(entry).collect(),
        }
    }

    /// The grant that a handle names.
    ///
    /// # Errors
    /// [`StaleHandle`].
    pub fn lookup(&self, handle: u64) -> Result<&T, StaleHandle> {
        let (slot, generation) = split(handle).ok_or(StaleHandle(handle))?;
        match self.entries.get(slot) {
            Some(Entry {
                generation: present,
                held: Some(held),
            }) if *present == generation => Ok(held),
            _ => Err(StaleHandle(handle)),
        }
    }

    /// The same, to be changed.
    ///
    /// # Errors
    /// [`StaleHandle`].
    pub fn lookup_mut(&mut self, handle: u64) -> Result<&mut T, StaleHandle> {
        let (slot, generation) = split(handle).ok_or(StaleHandle(handle))?;
        match self.entries.get_mut(slot) {
            Some(Entry {
                generation: present,
                held: Some(held),
            }) if *present == generation => Ok(held),
            _ => Err(StaleHandle(handle)),
        }
    }

    /// Takes a grant back.
    ///
    /// # Errors
    /// [`StaleHandle`], also when it was taken back before.
    pub fn revoke(&mut self, handle: u64) -> Result<T, StaleHandle> {
        let (slot, generation) = split(handle).ok_or(StaleHandle(handle))?;
        match self.entries.get_mut(slot) {
            Some(entry) if entry.generation == generation => {
                let held = entry.held.take().ok_or(StaleHandle(handle))?;
                entry.generation = entry.generation.wrapping_add(1).max(1);
                Ok(held)
            }
            _ => Err(StaleHandle(handle)),
        }
    }

    /// Every grant that still holds, with its handle.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries.iter().zip(0u32..).filter_map(|(entry, slot)| {
            let held = entry.held.as_ref()?;
            Some((u64::from(slot) | (u64::from(entry.generation) << 32), held))
        })
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|entry| entry.held.as_mut())
    }
}

fn split(handle: u64) -> Option<(usize, u32)> {
    let slot = usize::try_from(handle & u64::from(u32::MAX)).ok()?;
    Some((slot, u32::try_from(handle >> 32).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_until_it_is_taken_back() {
        let mut table = GrantTable::new([(7, "a"), (0, "b")]);
        let handles: Vec<u64> = table.iter().map(|(handle, _)| handle).collect();
        assert_eq!(handles, [7 << 32, 1 | (1 << 32)]);
        assert_eq!(table.lookup(handles[0]), Ok(&"a"));
        for forged in [0, 1, 8 << 32, 6 << 32, 2 | (7 << 32), (7 << 32) | 1, u64::MAX] {
            assert_eq!(table.lookup(forged), Err(StaleHandle(forged)), "{forged:#x}");
            assert_eq!(table.revoke(forged), Err(StaleHandle(forged)), "{forged:#x}");
        }
        assert_eq!(table.revoke(handles[0]), Ok("a"));
        assert_eq!(table.lookup(handles[0]), Err(StaleHandle(handles[0])));
        assert_eq!(
            table.lookup_mut(8 << 32),
            Err(StaleHandle(8 << 32)),
            "the next generation holds nothing"
        );
        assert_eq!(table.revoke(8 << 32), Err(StaleHandle(8 << 32)));
        assert_eq!(table.iter().count(), 1);
    }
}
