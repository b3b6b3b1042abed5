//! Exit codes: what scripts rely on.

use larder_proto::v1::State;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Accepted, or done.
    Done,
    /// An error.
    Error,
    /// Wrong usage.
    Usage,
    /// Judged, and not accepted.
    NotAccepted,
    /// It cannot be judged yet.
    Pending,
    /// `verify` alone: no signature was found.
    VerifyUnsigned,
    /// `verify` alone: there is no such thing.
    VerifyNotFound,
    /// `verify` alone: untrusted, revoked, denied or corrupt.
    VerifyUntrusted,
}

impl Exit {
    /// Returns the code of the process. `verify` has cosign's, of which 13 (no certificate) belongs to keyless
    /// verification.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::NotAccepted => 3,
            Self::Pending => 4,
            Self::VerifyUnsigned => 10,
            Self::VerifyNotFound => 11,
            Self::VerifyUntrusted => 12,
        }
    }

    /// Returns the exit of a subject's state.
    pub(crate) fn of(state: State) -> Self {
        match state {
            State::Verified | State::Allowed => Self::Done,
            State::Pending => Self::Pending,
            // A state of a newer daemon is not known to be accepted.
            State::Unspecified
            | State::Corrupt
            | State::Denied
            | State::Revoked
            | State::Untrusted
            | State::Unsigned => Self::NotAccepted,
        }
    }

    /// Returns the exit of a subject's state as `verify` has it.
    pub(crate) fn of_verified(state: State) -> Self {
        match state {
            State::Verified | State::Allowed => Self::Done,
            State::Unsigned => Self::VerifyUnsigned,
            State::Revoked | State::Untrusted | State::Denied | State::Corrupt => Self::VerifyUntrusted,
            State::Pending | State::Unspecified => Self::Error,
        }
    }

    /// Returns the weightier of two: an error before not accepted before pending before done.
    pub(crate) fn or_worse(self, other: Self) -> Self {
        if self.weight() >= other.weight() { self } else { other }
    }

    fn weight(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Pending => 1,
            Self::NotAccepted => 2,
            Self::VerifyUnsigned | Self::VerifyNotFound | Self::VerifyUntrusted => 2,
            Self::Error => 3,
            Self::Usage => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_beats_a_rejection_and_that_beats_pending() {
        let worst = |exits: &[Exit]| exits.iter().copied().fold(Exit::Done, Exit::or_worse).code();
        assert_eq!(worst(&[]), 0);
        assert_eq!(worst(&[Exit::Done, Exit::Pending, Exit::Done]), 4);
        assert_eq!(worst(&[Exit::Pending, Exit::NotAccepted, Exit::Done]), 3);
        assert_eq!(worst(&[Exit::NotAccepted, Exit::Error, Exit::Pending]), 1);
    }

    #[test]
    fn only_verified_and_allowed_are_accepted() {
        let all = (0..=8).map(|number| State::try_from(number).expect("a state"));
        let codes: Vec<_> = all.map(|state| (Exit::of(state).code(), Exit::of_verified(state).code())).collect();
        // unspecified, corrupt, denied, verified, allowed, pending, revoked, untrusted, unsigned
        assert_eq!(codes, [(3, 1), (3, 12), (3, 12), (0, 0), (0, 0), (4, 1), (3, 12), (3, 12), (3, 10)]);
    }
}
