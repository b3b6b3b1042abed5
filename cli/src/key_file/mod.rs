//! Private keys: cosign's encrypted key files, and the plain ones that are imported.
//!
//! In come files that anybody may have written; keys leave only as signatures, or encrypted, and are wiped from memory
//! when they are dropped.

pub(crate) mod pair;
mod plain;
mod sealed;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{ECDSA_P521_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::der::Decode as _;
use p256::pkcs8::{
    DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, ObjectIdentifier, PrivateKeyInfoRef,
};
use pem::{EncodeConfig, Pem};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub(crate) use plain::import;
pub(crate) use sealed::EncryptedKey;

/// The largest key file that is read; cosign's for RSA keys of 4096 bits have 5 KiB.
pub(crate) const MAX_FILE: u64 = 64 << 10;

const KEY_BYTES: usize = 32;
const PEM_COLUMNS: usize = 64;

const OID_EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const OID_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const OID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const OID_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const OID_P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const OID_P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// Says why a private key cannot be used; to be read after the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyFileError {
    /// No PEM.
    #[error("is not a private key: it holds no PEM block")]
    NotPem,
    /// A public key.
    #[error("is a public key; what is wanted is the private one")]
    Public,
    /// A private key without a password.
    #[error("is a private key that is not encrypted; only cosign's encrypted key files are signed with")]
    NotEncrypted,
    /// A key file of cosign's, where a plain one was to be imported.
    #[error("is encrypted by cosign already")]
    Encrypted,
    /// A key that something else encrypted.
    #[error("is a private key that another tool has encrypted")]
    OtherEncryption,
    /// Something else.
    #[error("is not a private key of cosign's: it is PEM of another kind")]
    OtherPem,
    /// Broken JSON within.
    #[error("is damaged: what is in its PEM block is not what cosign writes")]
    Damaged,
    /// Parameters or algorithms that cosign does not write.
    #[error("is encrypted in a way that cosign does not use")]
    UnknownEncryption,
    /// The password, or a changed byte.
    #[error("cannot be decrypted: the password is wrong, or the file was changed")]
    WrongPassword,
    /// Broken DER within.
    #[error("holds a private key that is malformed")]
    Malformed,
    /// Another algorithm.
    #[error("holds a key of a kind that cosign does not sign with: ECDSA P-256, P-384, P-521, RSA and Ed25519 are")]
    OtherAlgorithm,
    /// An RSA key of an unusual size.
    #[error("holds an RSA key of {0} bits; those of 2048, 3072 and 4096 bits are imported")]
    RsaSize(usize),
    /// No random numbers.
    #[error("cannot be used: the system gives no random numbers")]
    NoRandomness,
}

impl KeyFileError {
    /// Returns what to do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::NotPem | Self::OtherPem | Self::Damaged | Self::OtherAlgorithm | Self::RsaSize(_) => {
                "`larder key generate` makes a key pair, and so does `cosign generate-key-pair`"
            }
            Self::Public => "it lies beside the public one as a rule, as cosign.key beside cosign.pub",
            Self::NotEncrypted => "`larder key import --key FILE` encrypts it",
            Self::Encrypted => "it needs no import: `larder sign --key FILE` takes it as it is",
            Self::OtherEncryption => "`openssl pkey -in FILE -out PLAIN` decrypts it, so that it can be imported",
            Self::UnknownEncryption => "`cosign import-key-pair` writes it anew",
            Self::WrongPassword => "nothing was done; COSIGN_PASSWORD is used where it is set, even if it is empty",
            Self::Malformed => "write it anew from its source; `openssl pkey -check -in FILE` says what is wrong",
            Self::NoRandomness => "nothing was written",
        }
    }
}

/// A private key; wiped when it is dropped.
pub(crate) struct PrivateKey {
    signer: Signer,
    /// As it is encrypted.
    pkcs8: Zeroizing<Vec<u8>>,
    /// The public half: SubjectPublicKeyInfo, DER.
    spki: Vec<u8>,
}

/// What signs. aws-lc wipes its keys when it frees them.
enum Signer {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(ed25519_dalek::SigningKey),
}

impl PrivateKey {
    /// Makes a new one on P-256, as cosign does.
    ///
    /// # Errors
    /// Fails where the system gives no random numbers.
    pub(crate) fn generate() -> Result<Self, KeyFileError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        loop {
            getrandom::fill(bytes.as_mut_slice()).map_err(|_| KeyFileError::NoRandomness)?;
            // One in 2^32 is no number below the curve's order.
            if let Ok(key) = p256::SecretKey::from_slice(bytes.as_slice()) {
                let der = key.to_pkcs8_der().map_err(malformed)?;
                return Self::from_pkcs8(der.as_bytes());
            }
        }
    }

    /// Reads a key in PKCS#8.
    ///
    /// # Errors
    /// Fails where it is malformed, or of a kind that cosign does not sign with.
    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyFileError> {
        let info = PrivateKeyInfoRef::from_der(der).map_err(malformed)?;
        let curve = info.algorithm.parameters.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
        let (signer, spki) = match (info.algorithm.oid, curve) {
            (OID_EC, Some(OID_P256)) => {
                let key = p256::SecretKey::from_pkcs8_der(der).map_err(malformed)?;
                let spki = key.public_key().to_public_key_der().map_err(malformed)?;
                (Signer::P256(key.into()), spki.into_vec())
            }
            (OID_EC, Some(OID_P384)) => {
                let key = p384::SecretKey::from_pkcs8_der(der).map_err(malformed)?;
                let spki = key.public_key().to_public_key_der().map_err(malformed)?;
                (Signer::P384(key.into()), spki.into_vec())
            }
            (OID_EC, Some(OID_P521)) => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA256_ASN1_SIGNING, der);
                let key = key.map_err(malformed)?;
                let spki: Result<PublicKeyX509Der<'_>, _> = key.public_key().as_der();
                let spki = spki.map_err(malformed)?.as_ref().to_vec();
                (Signer::P521(key), spki)
            }
            (OID_RSA, _) => {
                let key = RsaKeyPair::from_pkcs8(der).map_err(malformed)?;
                let spki: Result<PublicKeyX509Der<'_>, _> = key.public_key().as_der();
                let spki = spki.map_err(malformed)?.as_ref().to_vec();
                (Signer::Rsa(key), spki)
            }
            (OID_ED25519, _) => {
                let key = ed25519_dalek::SigningKey::from_pkcs8_der(der).map_err(malformed)?;
                let spki = key.verifying_key().to_public_key_der().map_err(malformed)?;
                (Signer::Ed25519(key), spki.into_vec())
            }
            _ => return Err(KeyFileError::OtherAlgorithm),
        };
        Ok(Self { signer, pkcs8: Zeroizing::new(der.to_vec()), spki })
    }

    /// Returns the public key as PEM, as in `cosign.pub`.
    pub(crate) fn public_pem(&self) -> String {
        pem::encode_config(&Pem::new("PUBLIC KEY", self.spki.as_slice()), pem_config())
    }

    /// Returns the public key: SubjectPublicKeyInfo, DER.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Returns the key's id: the SHA-256 of its SubjectPublicKeyInfo in hex.
    pub(crate) fn id(&self) -> String {
        Sha256::digest(&self.spki).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Signs bytes so that `cosign verify --key` accepts them without being told a hash: ECDSA over SHA-256 on every curve, in
    /// ASN.1 DER; RSA by PKCS#1 v1.5 over SHA-256; pure Ed25519 (docs/signing.md, "Algorithms").
    ///
    /// # Errors
    /// Fails where the system gives no random numbers.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, KeyFileError> {
        Ok(match &self.signer {
            Signer::P256(key) => {
                let signature: p256::ecdsa::Signature =
                    key.sign_prehash(&Sha256::digest(bytes)).map_err(no_randomness)?;
                signature.to_der().as_bytes().to_vec()
            }
            Signer::P384(key) => {
                let signature: p384::ecdsa::Signature =
                    key.sign_prehash(&Sha256::digest(bytes)).map_err(no_randomness)?;
                signature.to_der().as_bytes().to_vec()
            }
            Signer::P521(key) => key.sign(&SystemRandom::new(), bytes).map_err(no_randomness)?.as_ref().to_vec(),
            Signer::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).map_err(no_randomness)?;
                signature
            }
            Signer::Ed25519(key) => key.sign(bytes).to_vec(),
        })
    }
}

fn malformed<E>(_: E) -> KeyFileError {
    KeyFileError::Malformed
}

fn no_randomness<E>(_: E) -> KeyFileError {
    KeyFileError::NoRandomness
}

fn pem_config() -> EncodeConfig {
    EncodeConfig::new().set_line_ending(pem::LineEnding::LF).set_line_wrap(PEM_COLUMNS)
}

#[cfg(test)]
mod tests;
