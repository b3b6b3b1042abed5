//! Verdicts: states, reasons, and what the gate makes of them.

/// A subject's state; DESIGN section 5 has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Its bytes failed their digest and are not healed.
    Corrupt,
    /// Its digest is denied, or a policy denies its repository.
    Denied,
    /// It would be accepted if revoked, retired and expired keys still counted.
    Revoked,
    /// Some signature was found, and none that counts.
    Untrusted,
    /// No signature was found.
    Unsigned,
    /// A check that could still make it accepted is missing.
    Pending,
    /// Everything holds, at least one policy only by `static: pass`.
    Allowed,
    /// Everything that must hold, holds by a signature.
    Verified,
}

impl State {
    /// All states, worse first; the derived order is this one.
    pub const ALL: [Self; 8] = [
        Self::Corrupt,
        Self::Denied,
        Self::Revoked,
        Self::Untrusted,
        Self::Unsigned,
        Self::Pending,
        Self::Allowed,
        Self::Verified,
    ];

    /// Returns the lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Denied => "denied",
            Self::Revoked => "revoked",
            Self::Untrusted => "untrusted",
            Self::Unsigned => "unsigned",
            Self::Pending => "pending",
            Self::Allowed => "allowed",
            Self::Verified => "verified",
        }
    }

    /// Returns the state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Says whether this is *verified* or *allowed*: the only two accepted states.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Verified | Self::Allowed)
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reason {
    /// The stable code.
    pub code: Code,
    /// What the code is about.
    pub detail: Option<String>,
}

/// The stable codes of reasons; docs/reasons.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// signed-by: detail = key name. Neither of the others need be listed here yet; judge's author completes the list:
    SignedBy,
    /// no-policy
    NoPolicy,
}

/// What the gate does with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// Serve it.
    Serve,
    /// Serve it with a warning: only policies with `mode: warn` fail.
    Warn,
    /// Refuse it.
    Refuse,
    /// Ask again later.
    Retry,
}

/// A judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// Why, the telling ones first; bounded in number.
    pub reasons: Vec<Reason>,
    /// What the gate makes of it under `gate: enforce`.
    pub gate: Gate,
}
