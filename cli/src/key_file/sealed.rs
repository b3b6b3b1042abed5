//! cosign's encrypted key files (facts/sigstore.md 1.1).
//!
//! A PEM block of compact JSON: scrypt parameters, a nonce, and a NaCl secretbox around a PKCS#8 key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use pem::Pem;
use scrypt::Params;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{KEY_BYTES, KeyFileError, PrivateKey, pem_config};

/// What cosign writes since 2.0.
pub(super) const TAG: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// What it wrote before.
pub(super) const OLD_TAG: &str = "ENCRYPTED COSIGN PRIVATE KEY";
const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";
const SALT_BYTES: usize = 32;
pub(super) const NONCE_BYTES: usize = 24;
/// What new keys are written with: log2 of N, r, p.
const NEW: (u8, u32, u32) = (16, 8, 1);
/// The only parameters that cosign reads; a file must not choose how much memory it costs to refuse it.
const ALLOWED_LOG_N: std::ops::RangeInclusive<u8> = 15..=17;

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
            "ENCRYPTED PRIVATE KEY" => return Err(KeyFileError::OtherEncryption),
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
    /// Fails where the password is wrong, or the key of a kind that cosign does not sign with.
    pub(crate) fn decrypt(&self, password: &[u8]) -> Result<PrivateKey, KeyFileError> {
        let cipher = cipher(password, &self.salt, self.log_n)?;
        let opened = cipher.decrypt(Nonce::from_slice(&self.nonce), self.ciphertext.as_slice());
        let der = Zeroizing::new(opened.map_err(|_| KeyFileError::WrongPassword)?);
        PrivateKey::from_pkcs8(&der)
    }
}

impl PrivateKey {
    /// Encrypts it as cosign does. Returns the file's text.
    ///
    /// # Errors
    /// Fails where the system gives no random numbers.
    pub(crate) fn encrypt(&self, password: &[u8]) -> Result<String, KeyFileError> {
        self.encrypt_with(password, NEW.0)
    }

    pub(super) fn encrypt_with(&self, password: &[u8], log_n: u8) -> Result<String, KeyFileError> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
        getrandom::fill(&mut salt).map_err(|_| KeyFileError::NoRandomness)?;
        getrandom::fill(&mut nonce).map_err(|_| KeyFileError::NoRandomness)?;
        let (_, r, p) = NEW;
        let sealed = cipher(password, &salt, log_n)?.encrypt(Nonce::from_slice(&nonce), self.pkcs8.as_slice());
        let sealed = Sealed {
            kdf: Kdf { name: KDF.to_owned(), params: KdfParams { n: 1 << log_n, r, p }, salt: STANDARD.encode(salt) },
            cipher: Cipher { name: CIPHER.to_owned(), nonce: STANDARD.encode(nonce) },
            ciphertext: STANDARD.encode(sealed.map_err(|_| KeyFileError::Damaged)?),
        };
        let json = serde_json::to_vec(&sealed).map_err(|_| KeyFileError::Damaged)?;
        Ok(pem::encode_config(&Pem::new(TAG, json), pem_config()))
    }
}

fn cipher(password: &[u8], salt: &[u8], log_n: u8) -> Result<XSalsa20Poly1305, KeyFileError> {
    let params = Params::new(log_n, NEW.1, NEW.2).map_err(|_| KeyFileError::UnknownEncryption)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    scrypt::scrypt(password, salt, &params, key.as_mut_slice()).map_err(|_| KeyFileError::UnknownEncryption)?;
    Ok(XSalsa20Poly1305::new(Key::from_slice(key.as_slice())))
}
