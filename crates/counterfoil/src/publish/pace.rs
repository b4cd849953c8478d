//! When a place is tried next: a period after it took something, later and later after it did not.

use std::time::{Duration, Instant};

/// Longest pause after failures.
const LONGEST: Duration = Duration::from_mins(5);

/// One place's pace.
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    next: Option<Instant>,
    failures: u32,
}

impl Pace {
    /// At once, then once in this period.
    pub fn new(every: Duration) -> Self {
        Self { every, next: None, failures: 0 }
    }

    /// Whether it is time. At the end of the process nobody who is well waits for his time, and nobody else is tried.
    pub fn is_due(&self, now: Instant, ending: bool) -> bool {
        if ending { self.failures == 0 } else { self.next.is_none_or(|next| next <= now) }
    }

    /// Notes an attempt that ended now: after a failure the pause is a second, and doubles with each further one.
    pub fn tried(&mut self, now: Instant, well: bool) {
        self.failures = if well { 0 } else { self.failures + 1 };
        let pause = match self.failures {
            0 => self.every,
            n => Duration::from_secs(1 << (n - 1).min(16)).min(LONGEST),
        };
        self.next = Some(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_longer_and_longer_and_success_forgets_them() {
        let (mut pace, mut now) = (Pace::new(Duration::from_mins(1)), Instant::now());
        assert!(pace.is_due(now, false));
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            pace.tried(now, false);
            assert!(!pace.is_due(now + Duration::from_millis(seconds * 1000 - 1), false), "{seconds}");
            now += Duration::from_secs(seconds);
            assert!(pace.is_due(now, false) && !pace.is_due(now, true), "{seconds}");
        }
        pace.tried(now, true);
        assert!(!pace.is_due(now + Duration::from_secs(59), false));
        assert!(pace.is_due(now + Duration::from_mins(1), false));
        assert!(pace.is_due(now, true), "the last checkpoint does not wait");
    }
}
