//! Spans of time in which something is valid.

use jiff::{SignedDuration, Timestamp};

/// A span of time, both ends included, each of which may be open (facts/sigstore.md 6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The first instant.
    pub start: Option<Timestamp>,
    /// The last instant.
    pub end: Option<Timestamp>,
}

impl Window {
    /// Says whether an instant lies in it.
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= instant) && self.end.is_none_or(|end| instant <= end)
    }

    /// Returns the first instant behind it.
    pub fn just_after(&self) -> Option<Timestamp> {
        self.end.and_then(|end| end.checked_add(SignedDuration::from_nanos(1)).ok())
    }

    /// Returns what lies in both; it may hold no instant at all.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        let end = [self.end, other.end].into_iter().flatten().min();
        Self { start, end }
    }

    /// Says whether it holds an instant.
    pub fn is_empty(&self) -> bool {
        matches!((self.start, self.end), (Some(start), Some(end)) if end < start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_included() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let window = Window { start: Some(at(10)), end: Some(at(20)) };
        assert!(window.contains(at(10)) && window.contains(at(20)));
        assert!(!window.contains(at(9)) && !window.contains(at(21)));
        let open = Window::default();
        assert!(open.contains(at(0)));
        assert_eq!(open.and(window), window);
        assert!(window.and(Window { start: Some(at(21)), end: None }).is_empty());
        assert_eq!(window.and(Window { start: None, end: Some(at(15)) }).end, Some(at(15)));
    }
}
