//! Checks: arithmetic facts about one signature and one anchor.
//!
//! ECDSA and RSA are aws-lc-rs's, Ed25519 is ed25519-dalek's, for only that has the prehashed form, which cosign writes.

use std::borrow::Cow;
use std::cell::OnceCell;

use aws_lc_rs::digest;
use ed25519_dalek::{Signature, VerifyingKey};
use p256::pkcs8::der::asn1::UintRef;
use p256::pkcs8::der::{self, Decode as _, Encode as _, Reader as _, SliceReader};
use sha2::{Digest as _, Sha512 as Sha512Hasher};

use crate::key::{ByHash, KeyAlgorithm, PublicKey, Verifier};
use crate::keyless::key_id;
use crate::signature::FoundSignature;

#[cfg(test)]
mod agreement;

/// The hash that a signature turned out to be made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignedHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512 (Ed25519ph too).
    Sha512,
    /// SHA-224; ECDSA only.
    Sha224,
    /// The message itself (pure Ed25519).
    None,
}

/// Checks a signature against a key: which hash it is valid over, or `None` where it is not valid.
///
/// Pure: it knows no clock and no policy, so its result never goes stale. A signature that cannot be
/// checked (a fault, a format that this version does not check) is valid under no key.
pub fn check(signature: &FoundSignature, key: &PublicKey) -> Option<SignedHash> {
    Checker::of(signature)?.check(key)
}

/// One signature, to be checked against many keys: each hash of its message is computed once.
///
/// A stranger can attach a thousand signatures over a MiB each; hashing them anew for every key would
/// be work of the stranger's choosing.
#[derive(Debug)]
pub struct Checker<'a> {
    message: Cow<'a, [u8]>,
    signature: &'a [u8],
    /// A DSSE signature's own name for its key: no other key's signature is valid under that name.
    key_id: Option<&'a str>,
    sha256: OnceCell<digest::Digest>,
    sha384: OnceCell<digest::Digest>,
    sha512: OnceCell<digest::Digest>,
    sha224: OnceCell<Option<digest::Digest>>,
}

impl<'a> Checker<'a> {
    /// Begins to check `signature`; `None` where no key can make it valid.
    pub fn of(signature: &'a FoundSignature) -> Option<Self> {
        let can_be_checked = signature.format.is_checked() && signature.by_key && !signature.signature.is_empty();
        let over = || Self::over(signature.signed(), &signature.signature, signature.key_id.as_deref());
        can_be_checked.then(over)
    }

    /// Begins to check a raw signature over `message`.
    pub fn new(message: &'a [u8], signature: &'a [u8]) -> Self {
        Self::over(Cow::Borrowed(message), signature, None)
    }

    fn over(message: Cow<'a, [u8]>, signature: &'a [u8], key_id: Option<&'a str>) -> Self {
        let (sha256, sha384, sha512, sha224) = Default::default();
        Self { message, signature, key_id, sha256, sha384, sha512, sha224 }
    }

    /// Checks against one key, as [`check`] does.
    pub fn check(&self, key: &PublicKey) -> Option<SignedHash> {
        if self.key_id.is_some_and(|key_id| !key_id::is_of(key_id, key)) {
            return None;
        }
        let (field, order) = tries(key.algorithm());
        match key.verifier() {
            Verifier::Ed25519(key) => check_ed25519(&self.message, self.signature, key),
            Verifier::ByHash(keys) => {
                let signature = match field {
                    Some(field) => to_der(self.signature, field)?,
                    None => Cow::Borrowed(self.signature),
                };
                order.iter().copied().find(|&hash| self.is_valid(hash, keys, &signature))
            }
        }
    }

    fn is_valid(&self, hash: SignedHash, keys: &ByHash, signature: &[u8]) -> bool {
        let (cell, algorithm, key) = match hash {
            SignedHash::Sha256 => (&self.sha256, &digest::SHA256, &keys.sha256),
            SignedHash::Sha384 => (&self.sha384, &digest::SHA384, &keys.sha384),
            SignedHash::Sha512 => (&self.sha512, &digest::SHA512, &keys.sha512),
            SignedHash::Sha224 => {
                let digest = self.sha224.get_or_init(|| sha224(&self.message)).as_ref();
                return digest.is_some_and(|digest| keys.sha256.verify_digest_sig(digest, signature).is_ok());
            }
            SignedHash::None => return false,
        };
        let digest = cell.get_or_init(|| digest::digest(algorithm, &self.message));
        key.verify_digest_sig(digest, signature).is_ok()
    }
}

/// Hashes by SHA-224, with zeros before it as if by SHA-256, for aws-lc-rs has no ECDSA over SHA-224.
///
/// ECDSA signs a hash as a number no longer than its curve's order (FIPS 186-5, 6.4.1), which has 256 bits or more here: zeros
/// before it are nothing.
fn sha224(message: &[u8]) -> Option<digest::Digest> {
    let mut wide = [0; digest::SHA256_OUTPUT_LEN];
    let (_, low) = wide.split_last_chunk_mut::<{ digest::SHA224_OUTPUT_LEN }>()?;
    low.copy_from_slice(digest::digest(&digest::SHA224, message).as_ref());
    digest::Digest::import_less_safe(&wide, &digest::SHA256).ok()
}

/// Returns the hashes that a key may have signed, the likeliest first, and the bytes of a number of its field.
///
/// Which hash was signed is written nowhere, and cosign's versions differ (1 and 2: always SHA-256; 3: the curve's own);
/// `--signature-digest-algorithm` takes SHA-224 too, which RSA has in no library here.
pub(crate) fn tries(algorithm: KeyAlgorithm) -> (Option<usize>, &'static [SignedHash]) {
    use SignedHash::{Sha224, Sha256, Sha384, Sha512};
    match algorithm {
        KeyAlgorithm::EcdsaP256 => (Some(32), &[Sha256, Sha384, Sha512, Sha224]),
        KeyAlgorithm::EcdsaP384 => (Some(48), &[Sha384, Sha256, Sha512, Sha224]),
        KeyAlgorithm::EcdsaP521 => (Some(66), &[Sha512, Sha256, Sha384, Sha224]),
        KeyAlgorithm::Rsa | KeyAlgorithm::Ed25519 => (None, &[Sha256, Sha384, Sha512]),
    }
}

/// Checks pure Ed25519, then Ed25519ph without a context (RFC 8032, 5.1).
///
/// Strict: points of small order are refused, so that no signature is valid under two keys.
fn check_ed25519(message: &[u8], signature: &[u8], key: &VerifyingKey) -> Option<SignedHash> {
    let signature = Signature::from_slice(signature).ok()?;
    if key.verify_strict(message, &signature).is_ok() {
        return Some(SignedHash::None);
    }
    let prehash = Sha512Hasher::new().chain_update(message);
    key.verify_prehashed_strict(prehash, None, &signature).is_ok().then_some(SignedHash::Sha512)
}

/// Returns an ECDSA signature in DER: as it is, or, where it is none and has the length of one, from
/// IEEE P1363's `r || s`, which hardware and browsers write and sigstore accepts.
pub(crate) fn to_der(signature: &[u8], field: usize) -> Option<Cow<'_, [u8]>> {
    if is_ecdsa_der(signature) {
        return Some(Cow::Borrowed(signature));
    }
    if signature.len() != 2 * field {
        return None;
    }
    let (r, s) = signature.split_at(field);
    let (r, s) = (UintRef::new(r).ok()?, UintRef::new(s).ok()?);
    let length = (r.encoded_len().ok()? + s.encoded_len().ok()?).ok()?;
    let mut bytes = der::Header::new(der::Tag::Sequence, length).to_der().ok()?;
    r.encode_to_vec(&mut bytes).ok()?;
    s.encode_to_vec(&mut bytes).ok()?;
    Some(Cow::Owned(bytes))
}

/// Says whether the bytes are one `SEQUENCE { INTEGER, INTEGER }` (RFC 3279, 2.2.3).
fn is_ecdsa_der(bytes: &[u8]) -> bool {
    let parse = || {
        let mut reader = SliceReader::new(bytes)?;
        reader.sequence(|reader| {
            UintRef::decode(reader)?;
            UintRef::decode(reader)?;
            Ok::<_, der::Error>(())
        })?;
        reader.finish()
    };
    parse().is_ok()
}
