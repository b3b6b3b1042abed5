//! Keys in DER: SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) and RSAPublicKey (RFC 8017, A.1.1), made canonical.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use p256::pkcs8::der::asn1::{AnyRef, UintRef};
use p256::pkcs8::der::{self, Decode as _, Reader as _, SliceReader};
use p256::pkcs8::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::{ByHash, KeyAlgorithm, KeyError, Parsed, RSA_BITS, Verifier};

const OID_EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const OID_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const OID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const OID_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const OID_P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const OID_P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// Names of what is met now and then and not supported.
const FOREIGN_ALGORITHMS: [(&str, &str); 7] = [
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.111", "X448"),
    ("1.3.101.113", "Ed448"),
    ("2.16.840.1.101.3.4.3.17", "ML-DSA-44"),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
];
const FOREIGN_CURVES: [(&str, &str); 5] = [
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.33", "P-224"),
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
];
/// The largest RSA exponent, as Go's crypto/rsa has it; a longer one only costs time.
const MAX_RSA_EXPONENT: u64 = (1 << 31) - 1;
/// The byte that an uncompressed point begins with (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// Parses a SubjectPublicKeyInfo.
pub(super) fn parse_pkix(bytes: &[u8]) -> Result<Parsed, KeyError> {
    let info = SubjectPublicKeyInfoRef::from_der(bytes)
        .map_err(|error| KeyError::Malformed(format!("it is no SubjectPublicKeyInfo ({error})")))?;
    let key = info.subject_public_key.as_bytes().ok_or_else(|| malformed("the key is no whole number of bytes"))?;
    match info.algorithm.oid {
        OID_EC => parse_ec(info.algorithm.parameters, key),
        OID_RSA if info.algorithm.parameters.is_some_and(|parameters| parameters.is_null()) => parse_pkcs1(key),
        OID_RSA => Err(malformed("an RSA key has the parameters NULL, and this one has others")),
        OID_ED25519 if info.algorithm.parameters.is_none() => parse_ed25519(key),
        OID_ED25519 => Err(malformed("an Ed25519 key has no parameters, and this one has some")),
        other => Err(KeyError::UnsupportedAlgorithm(named(&FOREIGN_ALGORITHMS, other))),
    }
}

/// Parses a bare RSAPublicKey.
pub(super) fn parse_pkcs1(bytes: &[u8]) -> Result<Parsed, KeyError> {
    let (modulus, exponent) =
        rsa_numbers(bytes).map_err(|error| KeyError::Malformed(format!("it is no RSA public key ({error})")))?;
    let bits = bit_length(modulus.as_bytes());
    if !RSA_BITS.contains(&bits) {
        return Err(KeyError::RsaSize(bits));
    }
    let value = exponent.as_bytes().iter().try_fold(0_u64, |value, &byte| {
        let value = value << 8 | u64::from(byte);
        (value <= MAX_RSA_EXPONENT).then_some(value)
    });
    if !value.is_some_and(|value| value >= 3 && value % 2 == 1) {
        return Err(KeyError::RsaExponent);
    }
    let by_hash = by_hash(
        bytes,
        [
            &signature::RSA_PKCS1_2048_8192_SHA256,
            &signature::RSA_PKCS1_2048_8192_SHA384,
            &signature::RSA_PKCS1_2048_8192_SHA512,
        ],
    )?;
    let spki = canonical(&by_hash)?;
    Ok(Parsed::new(KeyAlgorithm::Rsa, bits, spki, Verifier::ByHash(Box::new(by_hash))))
}

fn rsa_numbers(bytes: &[u8]) -> Result<(UintRef<'_>, UintRef<'_>), der::Error> {
    let mut reader = SliceReader::new(bytes)?;
    let numbers =
        reader.sequence(|reader| Ok::<_, der::Error>((UintRef::decode(reader)?, UintRef::decode(reader)?)))?;
    reader.finish()?;
    Ok(numbers)
}

fn parse_ec(parameters: Option<AnyRef<'_>>, point: &[u8]) -> Result<Parsed, KeyError> {
    let curve = parameters.and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
    // Explicit parameters could describe a curve of the sender's own making (CVE-2020-0601).
    let Some(curve) = curve else { return Err(KeyError::UnsupportedCurve("a curve without a name".into())) };
    let (algorithm, bits, verifiers): (_, usize, [&'static dyn VerificationAlgorithm; 3]) = match curve {
        OID_P256 => (
            KeyAlgorithm::EcdsaP256,
            256,
            [
                &signature::ECDSA_P256_SHA256_ASN1,
                &signature::ECDSA_P256_SHA384_ASN1,
                &signature::ECDSA_P256_SHA512_ASN1,
            ],
        ),
        OID_P384 => (
            KeyAlgorithm::EcdsaP384,
            384,
            [
                &signature::ECDSA_P384_SHA256_ASN1,
                &signature::ECDSA_P384_SHA384_ASN1,
                &signature::ECDSA_P384_SHA512_ASN1,
            ],
        ),
        OID_P521 => (
            KeyAlgorithm::EcdsaP521,
            521,
            [
                &signature::ECDSA_P521_SHA256_ASN1,
                &signature::ECDSA_P521_SHA384_ASN1,
                &signature::ECDSA_P521_SHA512_ASN1,
            ],
        ),
        other => return Err(KeyError::UnsupportedCurve(named(&FOREIGN_CURVES, other))),
    };
    let field = bits.div_ceil(8);
    // The library would take a SubjectPublicKeyInfo of another curve here too; a point has one of these forms.
    let is_point = match point.first() {
        Some(&UNCOMPRESSED) => point.len() == 1 + 2 * field,
        Some(2 | 3) => point.len() == 1 + field,
        _ => false,
    };
    if !is_point {
        return Err(malformed("it does not have the form of a point on its curve"));
    }
    let by_hash = by_hash(point, verifiers)?;
    let spki = canonical(&by_hash)?;
    let is_canonical = spki.len().checked_sub(1 + 2 * field).and_then(|start| spki.get(start)) == Some(&UNCOMPRESSED);
    if !is_canonical {
        return Err(malformed("its point cannot be written in the uncompressed form"));
    }
    Ok(Parsed::new(algorithm, bits, spki, Verifier::ByHash(Box::new(by_hash))))
}

fn parse_ed25519(key: &[u8]) -> Result<Parsed, KeyError> {
    /// What precedes the 32 bytes of a key in its SubjectPublicKeyInfo (RFC 8410, section 4).
    const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let bytes: &[u8; 32] = key.try_into().map_err(|_| malformed("an Ed25519 key has 32 bytes"))?;
    let verifying = ed25519_dalek::VerifyingKey::from_bytes(bytes)
        .map_err(|_| malformed("it is no point on the curve of Ed25519"))?;
    if verifying.is_weak() {
        return Err(KeyError::Weak);
    }
    // A coordinate of p or more would be a second spelling, and so a second id, of the same key.
    if verifying.to_edwards().compress().as_bytes() != bytes {
        return Err(malformed("its point is not written in the canonical form"));
    }
    let spki = [PREFIX.as_slice(), bytes].concat();
    Ok(Parsed::new(KeyAlgorithm::Ed25519, 256, spki, Verifier::Ed25519(Box::new(verifying))))
}

fn by_hash(key: &[u8], verifiers: [&'static dyn VerificationAlgorithm; 3]) -> Result<ByHash, KeyError> {
    let [sha256, sha384, sha512] = verifiers;
    let parse = |verifier| {
        ParsedPublicKey::new(verifier, key)
            .map_err(|error| KeyError::Malformed(format!("its numbers do not make a key ({error})")))
    };
    Ok(ByHash { sha256: parse(sha256)?, sha384: parse(sha384)?, sha512: parse(sha512)? })
}

/// Writes the key anew: whatever form it was read in, there is one SubjectPublicKeyInfo of it.
fn canonical(by_hash: &ByHash) -> Result<Vec<u8>, KeyError> {
    let der = by_hash.sha256.as_der().map_err(|_| malformed("it cannot be written again"))?;
    Ok(der.as_ref().to_vec())
}

fn bit_length(bytes: &[u8]) -> usize {
    let leading = bytes.first().map_or(0, |byte| byte.leading_zeros() as usize);
    (bytes.len() * 8).saturating_sub(leading)
}

fn named(names: &[(&str, &str)], oid: ObjectIdentifier) -> String {
    let text = oid.to_string();
    names.iter().find(|(known, _)| *known == text).map_or_else(|| format!("OID {text}"), |(_, name)| (*name).to_owned())
}

fn malformed(text: &str) -> KeyError {
    KeyError::Malformed(text.to_owned())
}
