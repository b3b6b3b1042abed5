//! Signatures as they are found, in every format.

pub mod simple_signing;

use std::fmt;

/// A signature's id: SHA-256 over length-prefixed (format, signed bytes, signature, certificate,
/// chain, log entry, timestamp).
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

/// The format of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// A cosign SimpleSigning signature: the one format that this version checks.
    SimpleSigning,
    /// A Sigstore bundle: kept, found, not checked.
    Bundle,
    /// A classic DSSE attestation: kept, found, not checked.
    Attestation,
    /// A Notation signature: kept, found, not checked.
    Notation,
}

impl Format {
    /// The name used in reasons (`unsupported: bundle`) and JSON: simple-signing, bundle, attestation, notation.
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
        self == Self::SimpleSigning
    }
}
