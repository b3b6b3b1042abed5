//! The only source of the present time.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A clock that never shows a time before one that the journal has recorded (DESIGN section 6).
#[derive(Debug, Default)]
pub struct Clock {
    /// The journal's last time, in milliseconds. An atomic, for every verdict reads it.
    floor: AtomicI64,
}

impl Clock {
    /// Returns the later of the system's clock and the journal's last record, in whole milliseconds: what is kept
    /// in memory must not know more than what is read back from the journal.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now().as_millisecond().max(self.floor.load(Ordering::Relaxed));
        Timestamp::from_millisecond(now).unwrap_or_else(|_| Timestamp::now())
    }

    /// Notes a time that the journal has recorded.
    pub fn note(&self, recorded: Timestamp) {
        self.floor.fetch_max(recorded.as_millisecond(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn never_before_what_is_recorded() {
        let clock = Clock::default();
        let start = clock.now();
        let later = start + SignedDuration::from_hours(1);
        clock.note(later);
        clock.note(start);
        assert_eq!(clock.now().as_millisecond(), later.as_millisecond());
    }
}
