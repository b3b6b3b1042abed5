//! Private keys that are not encrypted, as OpenSSL and others write them: read to be imported, and never written.

use super::sealed::{OLD_TAG, TAG};
use super::*;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING};

/// The sizes of RSA keys that cosign imports, in bits.
const RSA_BITS: [usize; 3] = [2048, 3072, 4096];
/// What precedes the 32 bytes of an Ed25519 key in PKCS#8 (RFC 8410, section 7).
const ED25519_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Reads a private key in PEM: PKCS#8, PKCS#1 (RSA) or SEC1 (elliptic curves).
///
/// # Errors
/// Fails where it is something else, and says what.
pub(crate) fn import(text: &[u8]) -> Result<PrivateKey, KeyFileError> {
    let (label, body) = secret_block(text)?;
    let der = decode(body)?;
    match label {
        Label::Pkcs8 => {
            let key = PrivateKey::from_pkcs8(&der)?;
            match &key.signer {
                Signer::Rsa(pair) => sized(pair)?,
                // Some write the public half behind it; cosign does not.
                Signer::Ed25519(pair) => {
                    let mut der = Zeroizing::new(Vec::with_capacity(ED25519_PREFIX.len() + KEY_BYTES));
                    der.extend_from_slice(&ED25519_PREFIX);
                    der.extend_from_slice(pair.as_bytes());
                    return PrivateKey::from_pkcs8(&der);
                }
                _ => {}
            }
            Ok(key)
        }
        Label::Pkcs1 => {
            let pair = RsaKeyPair::from_der(&der).map_err(malformed)?;
            sized(&pair)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(malformed)?;
            PrivateKey::from_pkcs8(der.as_ref())
        }
        Label::Sec1 => {
            let curves =
                [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA256_ASN1_SIGNING];
            let pair = curves.into_iter().find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, &der).ok());
            let pair = pair.ok_or(KeyFileError::OtherAlgorithm)?;
            let der = pair.to_pkcs8v1().map_err(malformed)?;
            PrivateKey::from_pkcs8(der.as_ref())
        }
    }
}

fn sized(pair: &RsaKeyPair) -> Result<(), KeyFileError> {
    let bits = pair.public_modulus_len() * 8;
    if RSA_BITS.contains(&bits) { Ok(()) } else { Err(KeyFileError::RsaSize(bits)) }
}

/// What is in a PEM block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Pkcs8,
    Pkcs1,
    Sec1,
}

/// Finds the private key's PEM block; others, as OpenSSL's `EC PARAMETERS`, may stand before it. The `pem` crate would leave
/// copies of the key in memory that is not wiped.
fn secret_block(text: &[u8]) -> Result<(Label, &[u8]), KeyFileError> {
    let text = std::str::from_utf8(text).map_err(|_| KeyFileError::NotPem)?;
    let mut rest = text;
    let mut found = KeyFileError::NotPem;
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let (label, after) = begun.split_once("-----").ok_or(KeyFileError::NotPem)?;
        let (body, after) = after.split_once(&format!("-----END {label}-----")).ok_or(KeyFileError::Malformed)?;
        rest = after;
        let label = match label {
            "PRIVATE KEY" => Label::Pkcs8,
            "RSA PRIVATE KEY" => Label::Pkcs1,
            "EC PRIVATE KEY" => Label::Sec1,
            TAG | OLD_TAG => return Err(KeyFileError::Encrypted),
            "ENCRYPTED PRIVATE KEY" => return Err(KeyFileError::OtherEncryption),
            "PUBLIC KEY" | "RSA PUBLIC KEY" => {
                found = KeyFileError::Public;
                continue;
            }
            _ => {
                found = KeyFileError::OtherPem;
                continue;
            }
        };
        // `Proc-Type: 4,ENCRYPTED` (RFC 1421) is how OpenSSL marks what it encrypted.
        if body.contains(':') {
            return Err(KeyFileError::OtherEncryption);
        }
        return Ok((label, body.as_bytes()));
    }
    Err(found)
}

fn decode(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    base64.extend(body.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; base64.len()]);
    let length = STANDARD.decode_slice(base64.as_slice(), &mut der).map_err(malformed)?;
    der.truncate(length);
    Ok(der)
}
