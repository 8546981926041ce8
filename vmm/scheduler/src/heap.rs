//! A binary heap whose members can be found: taking one out, or changing its key, costs no more than adding one. It allocates only
//! to grow beyond the largest size that it has had.
//!
//! Members are indices of a slab. Where each of them is stands in a [`Places`], which several heaps may share: the one rule is that
//! a member is in at most one heap of those that share.

/// The position of every member in the one heap that holds it.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<usize>);

impl Places {
    fn put(&mut self, member: usize, position: usize) {
        if self.0.len() <= member {
            self.0.resize(member + 1, NOWHERE);
        }
        if let Some(place) = self.0.get_mut(member) {
            *place = position;
        }
    }

    fn find(&self, member: usize) -> Option<usize> {
        self.0
            .get(member)
            .copied()
            .filter(|position| *position != NOWHERE)
    }
}

/// A heap with its smallest key on top.
#[derive(Debug)]
pub(crate) struct Heap<K> {
    entries: Vec<(K, usize)>,
}

impl<K> Default for Heap<K> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<K: Ord + Copy> Heap<K> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn peek(&self) -> Option<(K, usize)> {
        self.entries.first().copied()
    }

    /// Adds `member`, or gives it a new key if it is in this heap already.
    pub(crate) fn put(&mut self, key: K, member: usize, places: &mut Places) {
        let position = match self.position(member, places) {
            Some(position) => {
                if let Some(entry) = self.entries.get_mut(position) {
                    entry.0 = key;
                }
                position
            }
            None => {
                self.entries.push((key, member));
                places.put(member, self.entries.len() - 1);
                self.entries.len() - 1
            }
        };
        self.settle(position, places);
    }

    pub(crate) fn pop(&mut self, places: &mut Places) -> Option<(K, usize)> {
        let top = self.peek()?;
        self.remove(top.1, places);
        Some(top)
    }

    /// Takes `member` out; says whether it was in this heap.
    pub(crate) fn remove(&mut self, member: usize, places: &mut Places) -> bool {
        let Some(position) = self.position(member, places) else {
            return false;
        };
        self.entries.swap_remove(position);
        places.put(member, NOWHERE);
        if let Some((_, moved)) = self.entries.get(position) {
            places.put(*moved, position);
            self.settle(position, places);
        }
        true
    }

    pub(crate) fn contains(&self, member: usize, places: &Places) -> bool {
        self.position(member, places).is_some()
    }

    fn position(&self, member: usize, places: &Places) -> Option<usize> {
        places
            .find(member)
            .filter(|position| self.entries.get(*position).is_some_and(|entry| entry.1 == member))
    }

    /// Moves the entry at `position` up or down to where its key belongs.
    fn settle(&mut self, mut position: usize, places: &mut Places) {
        while position > 0 && self.is_less(position, (position - 1) / 2) {
            self.swap(position, (position - 1) / 2, places);
            position = (position - 1) / 2;
        }
        loop {
            let (left, right) = (2 * position + 1, 2 * position + 2);
            let child = if self.is_less(right, left) { right } else { left };
            if !self.is_less(child, position) {
                return;
            }
            self.swap(position, child, places);
            position = child;
        }
    }

    fn is_less(&self, one: usize, other: usize) -> bool {
        match (self.entries.get(one), self.entries.get(other)) {
            (Some(one), Some(other)) => one.0 < other.0,
            _ => false,
        }
    }

    fn swap(&mut self, one: usize, other: usize, places: &mut Places) {
        self.entries.swap(one, other);
        for position in [one, other] {
            if let Some((_, member)) = self.entries.get(position) {
                places.put(*member, position);
            }
        }
    }
}

const NOWHERE: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_member_of_one_heap_is_not_taken_from_another() {
        let (mut one, mut other, mut places) = (Heap::default(), Heap::default(), Places::default());
        one.put(1, 0, &mut places);
        other.put(1, 1, &mut places);
        assert!(!other.remove(0, &mut places));
        assert!(!other.remove(7, &mut places));
        assert_eq!(one.pop(&mut places), Some((1, 0)));
        assert_eq!(one.pop(&mut places), None);
        assert!(!one.contains(0, &places));
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_sorted_map(ops in prop::collection::vec((0_u8..4, 0_usize..40, 0_u64..1000), 1..400)) {
            let (mut heap, mut places, mut model) = (Heap::default(), Places::default(), BTreeMap::new());
            for (op, member, key) in ops {
                match op {
                    0 | 1 => {
                        heap.put((key, member), member, &mut places);
                        model.insert(member, (key, member));
                    }
                    2 => prop_assert_eq!(heap.remove(member, &mut places), model.remove(&member).is_some()),
                    _ => {
                        let least = model.iter().map(|(member, key)| (*key, *member)).min();
                        prop_assert_eq!(heap.pop(&mut places), least);
                        if let Some((_, member)) = least {
                            model.remove(&member);
                        }
                    }
                }
                prop_assert_eq!(heap.len(), model.len());
                prop_assert_eq!(heap.peek(), model.iter().map(|(member, key)| (*key, *member)).min());
                prop_assert_eq!(heap.contains(member, &places), model.contains_key(&member));
            }
        }
    }
}
