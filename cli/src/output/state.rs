//! States: their names, marks and colours.

use larder_proto::v1::State;

/// Begins green: accepted.
pub(crate) const GOOD: &str = "\u{1b}[32m";
/// Begins red: not accepted.
pub(crate) const BAD: &str = "\u{1b}[31m";
/// Begins yellow: pending or stale.
pub(crate) const WAITING: &str = "\u{1b}[33m";
/// Ends a colour.
pub(crate) const END: &str = "\u{1b}[0m";
/// All that a line of ours may hold.
pub(super) const STYLES: [&str; 4] = [GOOD, BAD, WAITING, END];

/// Returns the name in lower case; `unknown` for a state that this client does not know.
pub(crate) fn name(state: State) -> &'static str {
    match state {
        State::Unspecified => "unknown",
        State::Corrupt => "corrupt",
        State::Denied => "denied",
        State::Verified => "verified",
        State::Allowed => "allowed",
        State::Pending => "pending",
        State::Revoked => "revoked",
        State::Untrusted => "untrusted",
        State::Unsigned => "unsigned",
    }
}

/// Returns the mark.
pub(crate) fn mark(state: State) -> &'static str {
    match state {
        State::Verified | State::Allowed => "✔",
        State::Pending => "…",
        _ => "✘",
    }
}

/// Says whether it is one of the two accepted states.
pub(crate) fn is_accepted(state: State) -> bool {
    matches!(state, State::Verified | State::Allowed)
}

/// Returns the colour.
pub(crate) fn colour(state: State) -> &'static str {
    match state {
        State::Verified | State::Allowed => GOOD,
        State::Pending => WAITING,
        _ => BAD,
    }
}

/// Writes the name in its colour, filled up to `width`.
pub(crate) fn coloured(state: State, width: usize) -> String {
    format!("{}{:<width$}{END}", colour(state), name(state))
}

/// Writes mark and name in their colour, filled up to `width`; without a person to read it, the name alone.
pub(crate) fn marked(state: State, width: usize, for_a_person: bool) -> String {
    if for_a_person {
        format!("{}{} {:<width$}{END}", colour(state), mark(state), name(state))
    } else {
        format!("{:<width$}", name(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_for_people() {
        assert_eq!(marked(State::Verified, 10, false), "verified  ");
        assert_eq!(marked(State::Untrusted, 10, true), "\u{1b}[31m✘ untrusted \u{1b}[0m");
        assert_eq!(marked(State::Pending, 0, true), "\u{1b}[33m… pending\u{1b}[0m");
    }
}
