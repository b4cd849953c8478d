//! One budget for all bodies in memory: bytes are taken before they are read, so a burst is answered 503 instead of
//! filling memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that may be held at once.
#[derive(Clone, Debug)]
pub struct Budget {
    free: Arc<AtomicUsize>,
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { free: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// Takes bytes, or nothing when fewer are free.
    pub fn take(&self, bytes: usize) -> Option<Held> {
        self.take_bytes(bytes).then(|| Held { budget: self.clone(), bytes })
    }

    /// Bytes free now.
    pub fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    fn take_bytes(&self, bytes: usize) -> bool {
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes)).is_ok()
    }
}

impl Held {
    /// Takes more; false (and nothing changed) when fewer bytes are free.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let taken = self.budget.take_bytes(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back() {
        let budget = Budget::new(10);
        let mut held = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(held.grow(4));
        assert!(!held.grow(1));
        assert_eq!(budget.free(), 0);
        drop(held);
        assert_eq!(budget.free(), 10);
    }
}
