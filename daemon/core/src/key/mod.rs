//! Public keys, and the anchors that they are.
//!
//! PEM text goes in ([`PublicKey::from_pem`]), and a key comes out that is known to be on its curve, of a size that is
//! safe, and of one spelling only: however its point or its parameters were written, it has the id of the canonical
//! SubjectPublicKeyInfo, so that a revocation by id cannot be dodged by another spelling of the same key.

mod spki;
mod text;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use sha2::{Digest as _, Sha256};

/// The most bytes that a file with a public key may have; an RSA key of 8192 bits takes 1.5 KiB.
pub const MAX_KEY_BYTES: usize = 64 << 10;
/// The sizes that an RSA modulus may have, in bits.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

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

impl KeyAlgorithm {
    /// Returns the name shown to people, as in `ECDSA P-256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::EcdsaP521 => "ECDSA P-521",
            Self::Rsa => "RSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A public key, parsed and ready to check signatures with. Cheap to clone (shared inside).
#[derive(Clone)]
pub struct PublicKey(Arc<Parsed>);

struct Parsed {
    id: AnchorId,
    algorithm: KeyAlgorithm,
    bits: usize,
    /// The canonical SubjectPublicKeyInfo, DER.
    spki: Vec<u8>,
    verifier: Verifier,
}

/// What a signature is checked with.
pub(crate) enum Verifier {
    /// ECDSA or RSA: a parsed key for each hash, for aws-lc-rs ties a key to one.
    ByHash(Box<ByHash>),
    /// Ed25519, pure and prehashed.
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
}

/// One key, once for each hash that may have been signed.
pub(crate) struct ByHash {
    pub(crate) sha256: ParsedPublicKey,
    pub(crate) sha384: ParsedPublicKey,
    pub(crate) sha512: ParsedPublicKey,
}

/// Says why bytes are no public key that Larder takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is longer than [`MAX_KEY_BYTES`].
    #[error("{0} bytes are too many for a public key (at most 64 KiB); is this the right file?")]
    TooLong(usize),
    /// There is nothing in it.
    #[error("the file is empty; it should hold a PEM block PUBLIC KEY, as cosign.pub does")]
    Empty,
    /// There is no PEM block.
    #[error("there is no PEM block in it; a public key begins with -----BEGIN PUBLIC KEY-----, as cosign.pub does")]
    NoPem,
    /// It is in OpenSSH's one-line form.
    #[error("this is an OpenSSH public key; convert it with: ssh-keygen -e -m PKCS8 -f FILE > key.pub")]
    OpenSsh,
    /// It is binary DER.
    #[error("this is binary DER, not PEM; convert it with: openssl pkey -pubin -inform DER -in FILE -out key.pub")]
    Der,
    /// There are several PEM blocks.
    #[error("there are {0} PEM blocks in it; put each public key into a file of its own")]
    SeveralBlocks(usize),
    /// It is a private key, which must not lie in a folder of public ones.
    #[error(
        "this is a private key ({0}), which Larder never needs; write its public half with: cosign public-key --key FILE > key.pub"
    )]
    PrivateKey(String),
    /// It is a certificate.
    #[error(
        "this is a certificate, not a public key; take its key out with: openssl x509 -pubkey -noout -in FILE > key.pub"
    )]
    Certificate,
    /// The PEM block is of another kind.
    #[error("the PEM block is {0:?}, not PUBLIC KEY or RSA PUBLIC KEY")]
    OtherBlock(String),
    /// The PEM block, or the DER in it, is broken.
    #[error("the public key is malformed: {0}; write the file again from its source")]
    Malformed(String),
    /// The key is of a kind that Larder cannot check signatures with.
    #[error("{0} keys are not supported; use ECDSA (P-256, P-384, P-521), RSA or Ed25519")]
    UnsupportedAlgorithm(String),
    /// The key is on another curve.
    #[error("ECDSA keys on {0} are not supported; use P-256, P-384 or P-521")]
    UnsupportedCurve(String),
    /// The RSA modulus is too short to be safe, or too long to be checked in bounded time.
    #[error("an RSA key of {0} bits is not accepted; use 2048 to 8192 bits")]
    RsaSize(usize),
    /// The RSA exponent is even, one, or too long.
    #[error(
        "the RSA key's public exponent is not accepted: it must be odd, at least 3 and below 2^31 (65537 is usual)"
    )]
    RsaExponent,
    /// The key is one for which anybody can make signatures.
    #[error("this Ed25519 key is of small order: anybody could make signatures for it; make a new key")]
    Weak,
}

impl PublicKey {
    /// Reads one PEM block, `PUBLIC KEY` (PKIX) or `RSA PUBLIC KEY` (PKCS#1); text around it is ignored.
    ///
    /// # Errors
    /// Fails for anything else, and says what it is instead and what to do.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        let block = text::single_block(bytes)?;
        let parsed = match block.kind {
            text::BlockKind::Pkix => spki::parse_pkix(&block.der)?,
            text::BlockKind::Pkcs1 => spki::parse_pkcs1(&block.der)?,
        };
        Ok(Self(Arc::new(parsed)))
    }

    /// Reads a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// Fails for keys that [`PublicKey::from_pem`] refuses too.
    pub fn from_der(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong(bytes.len()));
        }
        Ok(Self(Arc::new(spki::parse_pkix(bytes)?)))
    }

    /// Returns the id.
    pub fn id(&self) -> AnchorId {
        self.0.id
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.0.algorithm
    }

    /// Returns the size in bits: of the modulus for RSA, of the field for curves.
    pub fn bits(&self) -> usize {
        self.0.bits
    }

    /// Returns the canonical SubjectPublicKeyInfo, DER; its SHA-256 is the id.
    pub fn to_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// Returns the key as PEM, `PUBLIC KEY`, byte for byte as cosign writes it.
    pub fn to_pem(&self) -> String {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new("PUBLIC KEY", self.0.spki.clone()), config)
    }

    pub(crate) fn verifier(&self) -> &Verifier {
        &self.0.verifier
    }
}

impl Parsed {
    fn new(algorithm: KeyAlgorithm, bits: usize, spki: Vec<u8>, verifier: Verifier) -> Self {
        Self { id: AnchorId(Sha256::digest(&spki).into()), algorithm, bits, spki, verifier }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}
impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.algorithm(), self.id())
    }
}

#[cfg(test)]
mod tests;
