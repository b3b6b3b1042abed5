//! Through which eyes keys and checks are counted: one question, asked in three ways.

use crate::check::SignedHash;
use crate::facts::Tried;
use crate::key::KeyAlgorithm;
use crate::policy::{Anchor, Standing};

/// How keys and checks are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lens {
    /// As they are: what decides about acceptance.
    Actual,
    /// As if every missing check of a key that counts were good: what is accepted only so is *pending*.
    Hopeful,
    /// As if revoked, retired and expired keys still counted: what is accepted only so is *revoked*.
    Amnesty,
}

impl Lens {
    /// Says whether a key counts, for some of its signatures at least.
    pub(super) fn admits(self, standing: Standing) -> bool {
        self == Self::Amnesty || matches!(standing, Standing::Usable | Standing::Ended)
    }

    /// Says whether a check counts, for a key of which a certain hash may be demanded.
    pub(super) fn counts(self, tried: Tried, anchor: &Anchor, demanded: Option<SignedHash>) -> bool {
        match tried {
            Tried::Valid(hash) => is_demanded(hash, anchor, demanded),
            Tried::Not => self == Self::Hopeful,
            Tried::Invalid => false,
        }
    }
}

/// Compares the hash that was signed over with the one that is asked for. Ed25519 chooses for itself.
pub(super) fn is_demanded(hash: SignedHash, anchor: &Anchor, demanded: Option<SignedHash>) -> bool {
    demanded.is_none_or(|demanded| demanded == hash || anchor.key.algorithm() == KeyAlgorithm::Ed25519)
}
