//! Collections of one run: a value or two as a rule, a thousand at most.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// Values in order, without repeats. A vector: twenty thousand runs hold six of these each, and a tree takes room for
/// eleven values to hold one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// How many values such a collection may hold, and how many found no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) limit: usize,
    pub(crate) lost: u64,
}

impl<T> Few<T> {
    /// The value that compares as equal, or the place where it would be.
    pub(crate) fn find(&mut self, compare: impl FnMut(&T) -> Ordering) -> Result<&mut T, usize> {
        match self.0.binary_search_by(compare) {
            Ok(at) => Ok(&mut self.0[at]),
            Err(at) => Err(at),
        }
    }

    /// Puts a value where [`Few::find`] says. In a full collection the largest goes, which may be this one: so what stays
    /// does not depend on the order. True when it stays.
    pub(crate) fn put(&mut self, at: usize, value: T, room: &mut Room) -> bool {
        room.lost += u64::from(self.0.len() >= room.limit);
        if at >= room.limit {
            return false;
        }
        self.0.truncate(room.limit - 1);
        // Grown by doubling from one: most never hold a second.
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(self.0.len().max(1));
        }
        self.0.insert(at, value);
        true
    }

    /// Adds those values that are not there. True when one of them stays.
    pub(crate) fn add(&mut self, values: &[T], room: &mut Room) -> bool
    where
        T: Clone + Ord,
    {
        let mut new = false;
        for value in values {
            if let Err(at) = self.find(|known| known.cmp(value)) {
                new |= self.put(at, value.clone(), room);
            }
        }
        new
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Clone> Few<T> {
    pub(crate) fn to_vec(&self) -> Vec<T> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_does_not_depend_on_the_order() {
        let (mut a, mut b) = (Few::default(), Few::default());
        let mut room = Room { limit: 3, lost: 0 };
        assert!(a.add(&[1, 2, 3], &mut room));
        assert!(!a.add(&[4, 2], &mut room), "no room for a larger one");
        assert!(b.add(&[4, 3, 2, 1], &mut room));
        assert_eq!((a.to_vec(), b.to_vec(), room.lost), (vec![1, 2, 3], vec![1, 2, 3], 2));
    }
}
