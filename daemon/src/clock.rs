//! The only source of the present time.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A clock that never shows a time before one that the journal has recorded (DESIGN section 6).
#[derive(Debug, Default)]
pub struct Clock {
    /// The journal's last time, in milliseconds.
    floor: AtomicI64,
}

impl Clock {
    /// Returns the later of the system's clock and the journal's last record.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        let floor = self.floor.load(Ordering::Relaxed);
        Timestamp::from_millisecond(floor).map_or(now, |floor| now.max(floor))
    }

    /// Notes a time that the journal has recorded.
    pub fn note(&self, recorded: Timestamp) {
        self.floor.fetch_max(recorded.as_millisecond(), Ordering::Relaxed);
    }
}
