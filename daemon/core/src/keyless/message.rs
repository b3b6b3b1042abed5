//! What a signature is over: bytes that are held, or the hashes of bytes that passed by.

use aws_lc_rs::digest;
use ed25519_dalek::Signature;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::Digest;
use crate::check::{Checker, SignedHash, to_der, tries};
use crate::key::{PublicKey, Verifier};

/// Hashes content as it passes, by each algorithm that a signature may be made with.
#[derive(Clone, Debug, Default)]
pub struct MessageHasher {
    sha256: Sha256,
    sha384: Sha384,
    sha512: Sha512,
}

impl MessageHasher {
    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.sha384.update(bytes);
        self.sha512.update(bytes);
    }

    /// Returns the hashes of all that was added.
    pub fn finish(self) -> Hashes {
        Hashes {
            sha256: self.sha256.finalize().into(),
            sha384: Some(self.sha384.finalize().into()),
            sha512: Some(self.sha512),
        }
    }
}

/// A message's hashes.
#[derive(Clone, Debug)]
pub struct Hashes {
    sha256: [u8; 32],
    sha384: Option<[u8; 48]>,
    /// Ed25519ph takes the hasher, not its result.
    sha512: Option<Sha512>,
}

impl Hashes {
    /// Hashes bytes that are held.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = MessageHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Takes a digest in place of a message; `None` for another algorithm than SHA-256. What was signed by another
    /// hash, or as it is, cannot be checked by it.
    pub fn of_digest(digest: &Digest) -> Option<Self> {
        match digest {
            Digest::Sha256(sha256) => Some(Self { sha256: *sha256, sha384: None, sha512: None }),
            Digest::Sha512(_) => None,
        }
    }

    /// Returns the hash by an algorithm's name, as `sha256` or protobuf's `SHA2_256`; `None` where it is not known.
    pub fn by_name(&self, algorithm: &str) -> Option<Vec<u8>> {
        match algorithm {
            "sha256" | "SHA2_256" => Some(self.sha256.to_vec()),
            "sha384" | "SHA2_384" => self.sha384.map(|hash| hash.to_vec()),
            "sha512" | "SHA2_512" => self.sha512.clone().map(|hasher| hasher.finalize().to_vec()),
            _ => None,
        }
    }

    /// Returns the digests by which content is addressed.
    pub fn digests(&self) -> Vec<Digest> {
        let sha512 = self.sha512.clone().map(|hasher| Digest::Sha512(hasher.finalize().into()));
        [Some(Digest::Sha256(self.sha256)), sha512].into_iter().flatten().collect()
    }

    /// Checks a signature by the hashes alone; pure Ed25519 needs the message itself and is never valid here.
    fn check(&self, signature: &[u8], key: &PublicKey) -> Option<SignedHash> {
        use SignedHash::{Sha256, Sha384, Sha512};
        let (field, order) = tries(key.algorithm());
        match key.verifier() {
            Verifier::Ed25519(key) => {
                let (signature, hasher) = (Signature::from_slice(signature).ok()?, self.sha512.clone()?);
                key.verify_prehashed_strict(hasher, None, &signature).is_ok().then_some(Sha512)
            }
            Verifier::ByHash(keys) => {
                let der = match field {
                    Some(field) => to_der(signature, field)?,
                    None => signature.into(),
                };
                order.iter().copied().find(|hash| {
                    let (name, algorithm, key) = match hash {
                        Sha256 => ("sha256", &digest::SHA256, &keys.sha256),
                        Sha384 => ("sha384", &digest::SHA384, &keys.sha384),
                        Sha512 => ("sha512", &digest::SHA512, &keys.sha512),
                        // Files are not hashed by it as they pass.
                        SignedHash::Sha224 | SignedHash::None => return false,
                    };
                    let value =
                        self.by_name(name).and_then(|hash| digest::Digest::import_less_safe(&hash, algorithm).ok());
                    value.is_some_and(|value| key.verify_digest_sig(&value, &der).is_ok())
                })
            }
        }
    }
}

/// What a signature is over.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// Bytes that are held.
    Bytes(&'a [u8]),
    /// The hashes of bytes that are not.
    Hashed(&'a Hashes),
}

impl Message<'_> {
    /// Checks a raw signature: which hash it is valid over, or `None` where it is not valid.
    pub fn check(&self, signature: &[u8], key: &PublicKey) -> Option<SignedHash> {
        match self {
            Self::Bytes(bytes) => Checker::new(bytes, signature).check(key),
            Self::Hashed(hashes) => hashes.check(signature, key),
        }
    }

    /// Returns the message's hashes.
    pub(super) fn hashes(&self) -> Hashes {
        match self {
            Self::Bytes(bytes) => Hashes::of(bytes),
            Self::Hashed(hashes) => (*hashes).clone(),
        }
    }
}
