//! Keeping collections within their limits.

use std::collections::{BTreeMap, BTreeSet};

/// Drops the oldest when there are more than `limit`, an eighth of the limit at once: so that the walk that finds them
/// is paid for by many insertions. What was dropped, the oldest first.
pub(crate) fn crowd_out<K: Ord + Clone, V, A: Ord>(
    map: &mut BTreeMap<K, V>,
    limit: usize,
    age: impl Fn(&V) -> A,
) -> Vec<(K, V)> {
    if map.len() <= limit {
        return Vec::new();
    }
    let surplus = map.len() - (limit - limit / 8);
    let mut ages: Vec<(A, &K)> = map.iter().map(|(key, value)| (age(value), key)).collect();
    ages.select_nth_unstable(surplus - 1);
    ages.truncate(surplus);
    ages.sort_unstable();
    let oldest: Vec<K> = ages.into_iter().map(|(_, key)| key.clone()).collect();
    oldest.into_iter().filter_map(|key| map.remove_entry(&key)).collect()
}

/// Cuts a set to its limit; the largest go, so that what stays does not depend on the order. How many went.
pub(crate) fn trim<T: Ord>(set: &mut BTreeSet<T>, limit: usize) -> u64 {
    let mut dropped = 0;
    while set.len() > limit {
        dropped += u64::from(set.pop_last().is_some());
    }
    dropped
}

/// Adds to a set and cuts it to its limit. How many were dropped.
pub(crate) fn add<T: Ord>(set: &mut BTreeSet<T>, values: impl IntoIterator<Item = T>, limit: usize) -> u64 {
    set.extend(values);
    trim(set, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_eighth_goes() {
        let mut map: BTreeMap<u32, u32> = (0..17).map(|n| (n, 100 - n)).collect();
        let gone: Vec<u32> = crowd_out(&mut map, 16, |age| *age).into_iter().map(|(key, _)| key).collect();
        assert_eq!(gone, [16, 15, 14]);
        assert_eq!(map.len(), 14);
        assert!(crowd_out(&mut map, 16, |age| *age).is_empty());
    }

    #[test]
    fn what_stays_in_a_full_set_does_not_depend_on_order() {
        let (mut a, mut b) = (BTreeSet::new(), BTreeSet::new());
        assert_eq!(add(&mut a, [1, 2, 3, 4], 3), 1);
        assert_eq!(add(&mut b, [4, 3, 2, 1], 3), 1);
        assert_eq!(a, b);
    }
}
