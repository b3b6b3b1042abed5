//! cosign's private key files.
//!
//! A PEM block of compact JSON: scrypt parameters, a nonce, and a NaCl secretbox around a PKCS#8 key. In come files that
//! anybody may have written; keys leave only as signatures, and are wiped from memory when they are dropped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use p256::SecretKey;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use pem::{EncodeConfig, Pem};
use scrypt::Params;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The largest key file that is read; cosign's are under 1 KiB.
pub(crate) const MAX_FILE: u64 = 64 << 10;

/// What cosign writes since 2.0.
const TAG: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// What it wrote before.
const OLD_TAG: &str = "ENCRYPTED COSIGN PRIVATE KEY";
const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";
const SALT_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;
const PEM_COLUMNS: usize = 64;
/// What new keys are written with: log2 of N, r, p.
const NEW: (u8, u32, u32) = (16, 8, 1);
/// The only parameters that cosign reads; a file must not choose how much memory it costs to refuse it.
const ALLOWED_LOG_N: std::ops::RangeInclusive<u8> = 15..=17;

/// Says why a private key cannot be used; to be read after the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyFileError {
    /// No PEM.
    #[error("is not a private key: it holds no PEM block")]
    NotPem,
    /// A public key.
    #[error("is a public key; signing takes the private one")]
    Public,
    /// A private key without a password.
    #[error("is a private key that is not encrypted; only cosign's encrypted key files are read")]
    NotEncrypted,
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
    /// Another algorithm.
    #[error("holds a key that is not ECDSA P-256; this version signs with P-256 only")]
    NotP256,
    /// No random numbers.
    #[error("cannot be made: the system gives no random numbers")]
    NoRandomness,
}

impl KeyFileError {
    /// Returns what to do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::NotPem | Self::OtherPem | Self::Damaged => {
                "`larder key generate` makes a key pair, and so does `cosign generate-key-pair`"
            }
            Self::Public => "it lies beside the public one as a rule, as cosign.key beside cosign.pub",
            Self::NotEncrypted => "`cosign import-key-pair --key FILE` encrypts it",
            Self::UnknownEncryption => "`cosign import-key-pair` writes it anew",
            Self::WrongPassword => "nothing was signed; COSIGN_PASSWORD is used where it is set, even if it is empty",
            Self::NotP256 => "`cosign sign` signs with other keys, through larder's endpoint, too",
            Self::NoRandomness => "nothing was written",
        }
    }
}

/// The JSON in the PEM block, in cosign's order.
#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: KdfParams,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct KdfParams {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// An encrypted key file that is well-formed.
pub(crate) struct EncryptedKey {
    log_n: u8,
    salt: Vec<u8>,
    nonce: [u8; NONCE_BYTES],
    ciphertext: Vec<u8>,
}

impl EncryptedKey {
    /// Reads a file's text, without its password.
    ///
    /// # Errors
    /// Fails where it is not what cosign writes.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, KeyFileError> {
        let pem = pem::parse(text).map_err(|_| KeyFileError::NotPem)?;
        match pem.tag() {
            TAG | OLD_TAG => {}
            "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(KeyFileError::Public),
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => return Err(KeyFileError::NotEncrypted),
            _ => return Err(KeyFileError::OtherPem),
        }
        let sealed: Sealed = serde_json::from_slice(pem.contents()).map_err(|_| KeyFileError::Damaged)?;
        if sealed.kdf.name != KDF || sealed.cipher.name != CIPHER {
            return Err(KeyFileError::UnknownEncryption);
        }
        let KdfParams { n, r, p } = sealed.kdf.params;
        let log_n = ALLOWED_LOG_N.into_iter().find(|log_n| n == 1 << log_n);
        let (Some(log_n), 8, 1) = (log_n, r, p) else { return Err(KeyFileError::UnknownEncryption) };
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| KeyFileError::Damaged);
        let nonce = decode(&sealed.cipher.nonce)?.try_into().map_err(|_| KeyFileError::Damaged)?;
        Ok(Self { log_n, salt: decode(&sealed.kdf.salt)?, nonce, ciphertext: decode(&sealed.ciphertext)? })
    }

    /// Decrypts the key.
    ///
    /// # Errors
    /// Fails where the password is wrong, or the key of another algorithm.
    pub(crate) fn decrypt(&self, password: &[u8]) -> Result<PrivateKey, KeyFileError> {
        let cipher = cipher(password, &self.salt, self.log_n)?;
        let opened = cipher.decrypt(Nonce::from_slice(&self.nonce), self.ciphertext.as_slice());
        let der = Zeroizing::new(opened.map_err(|_| KeyFileError::WrongPassword)?);
        SecretKey::from_pkcs8_der(&der).map(PrivateKey).map_err(|_| KeyFileError::NotP256)
    }
}

/// A P-256 private key; wiped when it is dropped.
pub(crate) struct PrivateKey(SecretKey);

impl PrivateKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// Fails where the system gives no random numbers.
    pub(crate) fn generate() -> Result<Self, KeyFileError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        loop {
            getrandom::fill(bytes.as_mut_slice()).map_err(|_| KeyFileError::NoRandomness)?;
            // One in 2^32 is no number below the curve's order.
            if let Ok(key) = SecretKey::from_slice(bytes.as_slice()) {
                return Ok(Self(key));
            }
        }
    }

    /// Encrypts it as cosign does. Returns the file's text.
    ///
    /// # Errors
    /// Fails where the system gives no random numbers.
    pub(crate) fn encrypt(&self, password: &[u8]) -> Result<String, KeyFileError> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
        getrandom::fill(&mut salt).map_err(|_| KeyFileError::NoRandomness)?;
        getrandom::fill(&mut nonce).map_err(|_| KeyFileError::NoRandomness)?;
        let (log_n, r, p) = NEW;
        let der = self.0.to_pkcs8_der().map_err(|_| KeyFileError::Damaged)?;
        let sealed = cipher(password, &salt, log_n)?.encrypt(Nonce::from_slice(&nonce), der.as_bytes());
        let sealed = Sealed {
            kdf: Kdf { name: KDF.to_owned(), params: KdfParams { n: 1 << log_n, r, p }, salt: STANDARD.encode(salt) },
            cipher: Cipher { name: CIPHER.to_owned(), nonce: STANDARD.encode(nonce) },
            ciphertext: STANDARD.encode(sealed.map_err(|_| KeyFileError::Damaged)?),
        };
        let json = serde_json::to_vec(&sealed).map_err(|_| KeyFileError::Damaged)?;
        let config = EncodeConfig::new().set_line_ending(pem::LineEnding::LF).set_line_wrap(PEM_COLUMNS);
        Ok(pem::encode_config(&Pem::new(TAG, json), config))
    }

    /// Returns the public key as PEM, as in `cosign.pub`.
    ///
    /// # Errors
    /// Fails where the key cannot be written, which a key that was made here never does.
    pub(crate) fn public_pem(&self) -> Result<String, KeyFileError> {
        self.0.public_key().to_public_key_pem(LineEnding::LF).map_err(|_| KeyFileError::Damaged)
    }

    /// Returns the key's id: the SHA-256 of its SubjectPublicKeyInfo in hex.
    pub(crate) fn id(&self) -> Result<String, KeyFileError> {
        let der = self.0.public_key().to_public_key_der().map_err(|_| KeyFileError::Damaged)?;
        Ok(Sha256::digest(der.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Signs bytes: ASN.1 DER over their SHA-256.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature: Signature = SigningKey::from(&self.0).sign(bytes);
        signature.to_der().as_bytes().to_vec()
    }
}

fn cipher(password: &[u8], salt: &[u8], log_n: u8) -> Result<XSalsa20Poly1305, KeyFileError> {
    let params = Params::new(log_n, NEW.1, NEW.2).map_err(|_| KeyFileError::UnknownEncryption)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    scrypt::scrypt(password, salt, &params, key.as_mut_slice()).map_err(|_| KeyFileError::UnknownEncryption)?;
    Ok(XSalsa20Poly1305::new(Key::from_slice(key.as_slice())))
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Verifier as _;
    use p256::ecdsa::{DerSignature, VerifyingKey};
    use p256::pkcs8::DecodePublicKey as _;

    use super::*;

    macro_rules! cosign_key {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/fixtures/cosign/keys/", $name))
        };
    }

    fn decrypt(file: &[u8], password: &str) -> Result<PrivateKey, KeyFileError> {
        EncryptedKey::parse(file)?.decrypt(password.as_bytes())
    }

    #[test]
    fn keys_of_cosign_are_read() {
        for (file, public, password) in [
            (&cosign_key!("p256.key")[..], &cosign_key!("p256.pub")[..], "larder"),
            (cosign_key!("other.key"), cosign_key!("other.pub"), "other"),
            (cosign_key!("nopass.key"), cosign_key!("nopass.pub"), ""),
            (cosign_key!("imp-sec1.key"), cosign_key!("imp-sec1.pub"), "larder"),
        ] {
            let key = decrypt(file, password).map_err(|error| error.to_string()).expect("the key");
            assert_eq!(key.public_pem().expect("PEM").as_bytes(), public);
        }
    }

    #[test]
    fn what_is_no_key_of_cosigns_says_what_it_is() {
        let refused = |file: &[u8], password: &str| decrypt(file, password).err().expect("refused");
        assert_eq!(refused(cosign_key!("p256.key"), "wrong"), KeyFileError::WrongPassword);
        assert_eq!(refused(cosign_key!("p256.key"), "larder\n"), KeyFileError::WrongPassword);
        assert_eq!(refused(cosign_key!("imp-ed25519.key"), "larder"), KeyFileError::NotP256);
        assert_eq!(refused(cosign_key!("p256.pub"), ""), KeyFileError::Public);
        assert_eq!(refused(cosign_key!("ec-P-256.pem"), ""), KeyFileError::NotEncrypted);
        assert_eq!(refused(b"no key", ""), KeyFileError::NotPem);
        assert_eq!(refused(b"", ""), KeyFileError::NotPem);
        let pem = |json: &str| pem::encode(&Pem::new(TAG, json));
        assert_eq!(refused(pem("{}").as_bytes(), ""), KeyFileError::Damaged);
        assert_eq!(refused(pem::encode(&Pem::new("CERTIFICATE", "x")).as_bytes(), ""), KeyFileError::OtherPem);
    }

    #[test]
    fn a_file_cannot_choose_what_it_costs() {
        let sealed = |n: u64, r: u32, p: u32| {
            let json = format!(
                r#"{{"kdf":{{"name":"scrypt","params":{{"N":{n},"r":{r},"p":{p}}},"salt":"AAAA"}},"cipher":{{"name":"nacl/secretbox","nonce":"{}"}},"ciphertext":"AAAA"}}"#,
                STANDARD.encode([0; NONCE_BYTES])
            );
            EncryptedKey::parse(pem::encode(&Pem::new(TAG, json)).as_bytes()).err()
        };
        assert_eq!(sealed(32_768, 8, 1), None);
        assert_eq!(sealed(131_072, 8, 1), None);
        for (n, r, p) in [(1 << 40, 8, 1), (65_536, 1 << 30, 1), (65_536, 8, 1 << 30), (65_535, 8, 1), (0, 8, 1)] {
            assert_eq!(sealed(n, r, p), Some(KeyFileError::UnknownEncryption), "{n} {r} {p}");
        }
    }

    #[test]
    fn a_new_key_round_trips_and_its_signatures_verify() {
        let key = PrivateKey::generate().expect("a key");
        let file = key.encrypt(b"s3cret").expect("a file");
        assert!(
            file.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\neyJrZGYiOnsibmFtZSI6InNjcnlwdCIs"),
            "{file}"
        );
        assert!(file.lines().all(|line| line.len() <= PEM_COLUMNS) && !file.contains('\r'));
        assert_eq!(decrypt(file.as_bytes(), "").err(), Some(KeyFileError::WrongPassword));
        let read = decrypt(file.as_bytes(), "s3cret").map_err(|error| error.to_string()).expect("the key");
        let public = VerifyingKey::from_public_key_pem(&key.public_pem().expect("PEM")).expect("a public key");
        let signature = DerSignature::from_bytes(&read.sign(b"payload")).expect("DER");
        public.verify(b"payload", &signature).expect("a good signature");
        assert!(public.verify(b"another", &signature).is_err());
        assert_eq!(key.id().expect("an id").len(), 64);
    }
}
