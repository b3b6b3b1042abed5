//! Verdicts: states, reasons, and what the gate makes of them.

use std::fmt;

/// The most reasons that a verdict carries; the telling ones come first.
pub const MAX_REASONS: usize = 8;

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

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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

impl Reason {
    /// Builds a reason that needs no detail.
    pub fn new(code: Code) -> Self {
        Self { code, detail: None }
    }

    /// Builds a reason about something.
    pub fn about(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }
}

impl fmt::Display for Reason {
    /// Writes `code` or `code: detail`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.name())?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// The stable codes of reasons; docs/reasons.md lists them with their details and remedies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// A key that counts signed it.
    SignedBy,
    /// A policy lets it in without a signature.
    StaticPass,
    /// An index of its repository that lists it is accepted.
    ViaIndex,
    /// A retired key's signature counts, for it was first seen before the retirement.
    FirstSeen,
    /// Its bytes failed their digest.
    Corrupt,
    /// deny.yaml lists its digest.
    DeniedDigest,
    /// A policy denies it.
    StaticFail,
    /// A check of a key that would count is not computed yet.
    CheckMissing,
    /// The daemon has not read its trust folder yet.
    Starting,
    /// The trust folder is missing or unreadable.
    TrustMissing,
    /// The look-up index is being rebuilt, so a tag cannot be resolved.
    Rebuilding,
    /// The key that signed it is revoked, retired or denied.
    KeyRevoked,
    /// The time for which the key that signed it is valid is over.
    KeyExpired,
    /// The time for which the key that signed it is valid has not begun.
    KeyNotYetValid,
    /// Neither a policy nor a key is for its repository.
    NoPolicy,
    /// A policy that matches it does not hold.
    PolicyFailed,
    /// A policy names a key file that is not there.
    KeyMissing,
    /// A policy names a trusted root that is not there, or asks for identities and there is no root.
    RootMissing,
    /// The trusted roots that a policy could lean on are older than the configuration lets them be.
    RootTooOld,
    /// A key signed it, and nothing proves that as a policy asks: no log, no timestamp.
    ProofMissing,
    /// A certificate's holder signed it, and a check that a policy asks for fails.
    IdentityRefused,
    /// Something that this version does not evaluate: a field, or a format of signatures.
    Unsupported,
    /// A policy names a key whose own `for` leaves this repository out.
    KeyNotForRepository,
    /// A known key signed it that does not count for it.
    OtherKey,
    /// None of the known keys made the signature.
    UnknownKey,
    /// The right key signed over another hash than the policy asks for.
    WrongHash,
    /// The right key signed in another format, or it was found elsewhere, than the policy asks for.
    NotAsAsked,
    /// A policy asks for an attestation of a type that none here has.
    AttestationMissing,
    /// A policy's condition does not hold for what is attested.
    ConditionFailed,
    /// A known key attested something about it, which is no signature.
    OnlyAttested,
    /// The signature names another digest.
    NamesAnotherDigest,
    /// The signature's payload cannot be read.
    UnreadablePayload,
    /// More signatures were found than are counted.
    TooManySignatures,
    /// No signature was found.
    NoSignature,
}

impl Code {
    /// All codes, in the order of docs/reasons.md.
    pub const ALL: [Self; 34] = [
        Self::SignedBy,
        Self::StaticPass,
        Self::ViaIndex,
        Self::FirstSeen,
        Self::Corrupt,
        Self::DeniedDigest,
        Self::StaticFail,
        Self::CheckMissing,
        Self::Starting,
        Self::TrustMissing,
        Self::Rebuilding,
        Self::KeyRevoked,
        Self::KeyExpired,
        Self::KeyNotYetValid,
        Self::NoPolicy,
        Self::PolicyFailed,
        Self::KeyMissing,
        Self::RootMissing,
        Self::RootTooOld,
        Self::ProofMissing,
        Self::IdentityRefused,
        Self::Unsupported,
        Self::KeyNotForRepository,
        Self::OtherKey,
        Self::UnknownKey,
        Self::WrongHash,
        Self::NotAsAsked,
        Self::AttestationMissing,
        Self::ConditionFailed,
        Self::OnlyAttested,
        Self::NamesAnotherDigest,
        Self::UnreadablePayload,
        Self::TooManySignatures,
        Self::NoSignature,
    ];

    /// Returns the name in kebab-case: what JSON and the API say.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignedBy => "signed-by",
            Self::StaticPass => "static-pass",
            Self::ViaIndex => "via-index",
            Self::FirstSeen => "first-seen",
            Self::Corrupt => "corrupt",
            Self::DeniedDigest => "denied-digest",
            Self::StaticFail => "static-fail",
            Self::CheckMissing => "check-missing",
            Self::Starting => "starting",
            Self::TrustMissing => "trust-missing",
            Self::Rebuilding => "rebuilding",
            Self::KeyRevoked => "key-revoked",
            Self::KeyExpired => "key-expired",
            Self::KeyNotYetValid => "key-not-yet-valid",
            Self::NoPolicy => "no-policy",
            Self::PolicyFailed => "policy-failed",
            Self::KeyMissing => "key-missing",
            Self::RootMissing => "root-missing",
            Self::RootTooOld => "root-too-old",
            Self::ProofMissing => "proof-missing",
            Self::IdentityRefused => "identity-refused",
            Self::Unsupported => "unsupported",
            Self::KeyNotForRepository => "key-not-for-repository",
            Self::OtherKey => "other-key",
            Self::UnknownKey => "unknown-key",
            Self::WrongHash => "wrong-hash",
            Self::NotAsAsked => "not-as-asked",
            Self::AttestationMissing => "attestation-missing",
            Self::ConditionFailed => "condition-failed",
            Self::OnlyAttested => "only-attested",
            Self::NamesAnotherDigest => "names-another-digest",
            Self::UnreadablePayload => "unreadable-payload",
            Self::TooManySignatures => "too-many-signatures",
            Self::NoSignature => "no-signature",
        }
    }

    /// Returns the code of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }
}

/// What the gate does with a subject. The derived order is from lax to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gate {
    /// Serve it.
    Serve,
    /// Serve it with a warning: only policies with `mode: warn` fail.
    Warn,
    /// Ask again later.
    Retry,
    /// Refuse it.
    Refuse,
}

impl Gate {
    /// Returns the lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Warn => "warn",
            Self::Retry => "retry",
            Self::Refuse => "refuse",
        }
    }
}

/// A judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// Why, the telling ones first; at most [`MAX_REASONS`].
    pub reasons: Vec<Reason>,
    /// What the gate makes of it under `gate: enforce`.
    pub gate: Gate,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_back() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.name()), Some(code));
        }
        assert_eq!(Code::from_name("SignedBy"), None);
        assert!(State::ALL.is_sorted());
    }

    #[test]
    fn the_page_lists_every_code_once() {
        let page = include_str!("../../../docs/reasons.md");
        let listed: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|line| line.split_once('`'))
            .map(|(name, _)| name)
            .collect();
        let codes: Vec<&str> = Code::ALL.into_iter().map(Code::name).collect();
        assert_eq!(listed, codes);
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
    }

    #[test]
    fn reasons_read_as_code_and_detail() {
        assert_eq!(Reason::new(Code::NoSignature).to_string(), "no-signature");
        assert_eq!(Reason::about(Code::SignedBy, "release").to_string(), "signed-by: release");
    }
}
