//! Public keys, and the anchors that they are.

use std::fmt;

/// The id of an anchor: for a key, the SHA-256 of its SubjectPublicKeyInfo. File names are only labels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnchorId(pub [u8; 32]);

impl fmt::Display for AnchorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::digest::hex(&self.0))
    }
}
impl fmt::Debug for AnchorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// ECDSA on P-521.
    EcdsaP521,
    /// RSA, 2048 to 8192 bits.
    Rsa,
    /// Ed25519.
    Ed25519,
}

/// A public key, parsed and ready to check signatures with. Cheap to clone (shared inside).
#[derive(Clone, Debug)]
pub struct PublicKey {}

/// Says why bytes are no public key that Larder takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// placeholder of the skeleton
    #[error("{0}")]
    Malformed(String),
}

impl PublicKey {
    /// Reads one PEM block, `PUBLIC KEY` (PKIX) or `RSA PUBLIC KEY` (PKCS#1).
    pub fn from_pem(_bytes: &[u8]) -> Result<Self, KeyError> {
        unimplemented!()
    }
    /// Returns the id.
    pub fn id(&self) -> AnchorId {
        unimplemented!()
    }
    /// Returns the algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        unimplemented!()
    }
    /// Returns the key as PEM, `PUBLIC KEY`.
    pub fn to_pem(&self) -> String {
        unimplemented!()
    }
}
