//! The rows of the table, as small as they get: digests, repositories and anchors are numbers.

use jiff::Timestamp;

use super::slots::NONE;
use crate::check::SignedHash;
use crate::digest::Digest;
use crate::signature::Format;
use crate::verdict::State;

/// A digest, with the common kind inline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CompactDigest {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

impl CompactDigest {
    pub(super) fn of(digest: Digest) -> Self {
        match digest {
            Digest::Sha256(bytes) => Self::Sha256(bytes),
            Digest::Sha512(bytes) => Self::Sha512(Box::new(bytes)),
        }
    }

    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Sha256(bytes) => Digest::Sha256(*bytes),
            Self::Sha512(bytes) => Digest::Sha512(**bytes),
        }
    }
}

/// What is known of a digest in every repository.
#[derive(Clone, Debug)]
pub(super) struct DigestRow {
    pub(super) digest: CompactDigest,
    /// The places of this digest.
    pub(super) first_place: u32,
    /// The signatures that name it.
    pub(super) first_named: u32,
    /// What was found hanging on it.
    pub(super) first_found: u32,
    pub(super) corrupt: bool,
}

impl DigestRow {
    pub(super) fn new(digest: Digest) -> Self {
        Self {
            digest: CompactDigest::of(digest),
            first_place: NONE,
            first_named: NONE,
            first_found: NONE,
            corrupt: false,
        }
    }
}

/// A digest in a repository: a subject, or only something that a subject or a signature refers to.
#[derive(Clone, Debug)]
pub(super) struct PlaceRow {
    pub(super) repository: u32,
    pub(super) digest: u32,
    pub(super) next_of_digest: u32,
    pub(super) first_parent: u32,
    pub(super) first_child: u32,
    /// Signatures found here beyond the limit.
    pub(super) uncounted: u32,
    pub(super) subject: bool,
    pub(super) told_state: Option<State>,
    pub(super) told_seq: u64,
    pub(super) first_seen: Instant,
}

/// An index lists a child, in one repository.
#[derive(Clone, Debug)]
pub(super) struct EdgeRow {
    pub(super) child: u32,
    pub(super) parent: u32,
    pub(super) next_parent: u32,
    pub(super) next_child: u32,
}

/// Stands for no predicate: it signs.
pub(super) const SIGNS: u16 = u16::MAX;

/// A signature.
#[derive(Clone, Debug)]
pub(super) struct SignatureEntry {
    pub(super) id: [u8; 32],
    pub(super) first_seen: Instant,
    pub(super) names: u32,
    pub(super) next_named: u32,
    pub(super) manifest: u32,
    pub(super) layer: u32,
    pub(super) first_found: u32,
    pub(super) first_valid: u32,
    /// The set of anchors that it was tried against.
    pub(super) tried: u32,
    /// The type of the predicate that it attests, or [`SIGNS`].
    pub(super) predicate: u16,
    pub(super) format: Format,
}

/// A signature was found at a place.
#[derive(Clone, Debug)]
pub(super) struct FoundRow {
    pub(super) signature: u32,
    pub(super) place: u32,
    pub(super) next_of_signature: u32,
    pub(super) next_of_digest: u32,
}

/// A signature is valid under an anchor.
#[derive(Clone, Debug)]
pub(super) struct ValidRow {
    pub(super) anchor: u32,
    pub(super) next: u32,
    /// `None` where a later check took it back.
    pub(super) hash: Option<SignedHash>,
}

/// An instant in nanoseconds since 1970: half the size of a [`Timestamp`], good for three centuries either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant(pub(super) i64);

impl Instant {
    pub(super) fn of(time: Timestamp) -> Self {
        let nanoseconds = time.as_nanosecond();
        let bound = if nanoseconds < 0 { i64::MIN } else { i64::MAX };
        Self(i64::try_from(nanoseconds).unwrap_or(bound))
    }

    pub(super) fn time(self) -> Timestamp {
        // Every 64-bit count of nanoseconds lies within a timestamp's range.
        Timestamp::from_nanosecond(self.0.into()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}
