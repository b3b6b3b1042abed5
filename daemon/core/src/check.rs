//! Checks: arithmetic facts about one signature and one anchor.

use crate::key::PublicKey;
use crate::signature::simple_signing::FoundSignature;

/// The hash that a signature turned out to be made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignedHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512 (Ed25519ph too).
    Sha512,
    /// The message itself (pure Ed25519).
    None,
}

/// Checks a signature against a key: which hash it is valid over, or `None` where it is not valid.
///
/// Pure: it knows no clock and no policy, so its result never goes stale.
pub fn check(_signature: &FoundSignature, _key: &PublicKey) -> Option<SignedHash> {
    unimplemented!()
}
