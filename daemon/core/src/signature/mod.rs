//! Signatures as they are found, in every format.
//!
//! [`found`] reads them out of what was attached to a subject; the formats themselves are in [`simple_signing`],
//! [`dsse`] and [`bundle`].

pub mod bundle;
pub mod bundle_writer;
pub mod dsse;
pub mod found;
mod go_json;
mod manifest_json;
pub mod material;
pub mod predicate;
pub mod simple_signing;
pub mod statement;

#[cfg(test)]
mod fixtures;

use std::fmt;

use sha2::{Digest as _, Sha256};

pub use found::{FoundSignature, Says};

/// A signature's id: SHA-256 over length-prefixed (format, signed bytes, signature, certificate,
/// chain, log entry, timestamp, and a DSSE signature's key id where it has one).
///
/// cosign rewrites its `.sig` manifest at each append, so a manifest's digest and a layer's number would not last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignatureId(pub [u8; 32]);

impl fmt::Display for SignatureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::digest::hex(&self.0))
    }
}
impl fmt::Debug for SignatureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a signature's id is made of; a part that is not there is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdParts<'a> {
    /// The format's name, with a suffix where what follows is not the signature as it was made.
    pub(crate) format: &'a str,
    pub(crate) signed: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) certificate: &'a [u8],
    pub(crate) chain: &'a [u8],
    pub(crate) log_entry: &'a [u8],
    pub(crate) timestamp: &'a [u8],
    /// Two layers that differ in nothing else differ in what they are valid under. Most have none, and their ids are made of
    /// the parts before it.
    pub(crate) key_id: Option<&'a str>,
}

impl IdParts<'_> {
    /// Hashes the parts, each behind its length (8 bytes, big-endian), so that no byte can move
    /// from one part to the next.
    pub(crate) fn id(&self) -> SignatureId {
        let parts = [
            self.format.as_bytes(),
            self.signed,
            self.signature,
            self.certificate,
            self.chain,
            self.log_entry,
            self.timestamp,
        ];
        let mut hasher = Sha256::new();
        for part in parts.into_iter().chain(self.key_id.map(str::as_bytes)) {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        SignatureId(hasher.finalize().into())
    }
}

/// The format of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// A cosign SimpleSigning signature.
    SimpleSigning,
    /// A Sigstore bundle: a signature or an attestation.
    Bundle,
    /// A classic DSSE attestation.
    Attestation,
    /// A Notation signature: kept, found, not checked.
    Notation,
}

impl Format {
    /// Returns the name used in reasons (`unsupported: bundle`) and JSON: simple-signing, bundle, attestation, notation.
    pub fn name(self) -> &'static str {
        match self {
            Self::SimpleSigning => "simple-signing",
            Self::Bundle => "bundle",
            Self::Attestation => "attestation",
            Self::Notation => "notation",
        }
    }

    /// Says whether this version checks signatures of this format.
    pub fn is_checked(self) -> bool {
        self != Self::Notation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_moves_between_the_parts_of_an_id() {
        let parts = IdParts { format: "f", signed: b"ab", signature: b"c", ..IdParts::default() };
        let moved = IdParts { signed: b"a", signature: b"bc", ..parts };
        let elsewhere = IdParts { signature: b"", certificate: b"c", ..parts };
        assert_ne!(parts.id(), moved.id());
        assert_ne!(parts.id(), elsewhere.id());
        assert_ne!(parts.id(), IdParts { log_entry: b"x", ..parts }.id());
        assert_ne!(parts.id(), IdParts { timestamp: b"x", ..parts }.id());
        assert_ne!(parts.id(), IdParts { key_id: Some("x"), ..parts }.id());
        assert_ne!(IdParts { timestamp: b"x", ..parts }.id(), IdParts { key_id: Some("x"), ..parts }.id());
        assert_eq!(parts.id(), IdParts { format: "f", ..parts }.id());
    }
}
