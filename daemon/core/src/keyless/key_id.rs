//! A DSSE signature's `keyid`: where it is not empty, it must be the key's own.
//!
//! The DSSE library behind cosign names keys by their OpenSSH fingerprint, as npm's signatures do
//! (go-securesystemslib, dsse.SHA256KeyID), and passes over signatures by another name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use p256::pkcs8::der::Tag;
use sha2::{Digest as _, Sha256};

use super::asn1::{Elements, Malformed};
use crate::key::{KeyAlgorithm, PublicKey};

/// Says whether `key_id` is the name of this key.
pub(crate) fn is_of(key_id: &str, key: &PublicKey) -> bool {
    let fingerprint = wire(key).map(|wire| format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(wire))));
    fingerprint.is_ok_and(|fingerprint| fingerprint == key_id)
}

/// Writes a key as OpenSSH does (RFC 4253, 6.6; RFC 5656, 3.1; RFC 8709, 4).
fn wire(key: &PublicKey) -> Result<Vec<u8>, Malformed> {
    const WHAT: &str = "the key";
    let mut info = Elements::of_sequence(key.to_der(), WHAT)?;
    info.sequence()?;
    // The first byte of a BIT STRING counts its unused bits: none in a key.
    let bits = info.value(Tag::BitString)?.split_first().ok_or(Malformed(WHAT))?.1;
    let curve = |name: &'static str| vec![format!("ecdsa-sha2-{name}").into_bytes(), name.into(), bits.to_vec()];
    let parts = match key.algorithm() {
        KeyAlgorithm::EcdsaP256 => curve("nistp256"),
        KeyAlgorithm::EcdsaP384 => curve("nistp384"),
        KeyAlgorithm::EcdsaP521 => curve("nistp521"),
        KeyAlgorithm::Ed25519 => vec![b"ssh-ed25519".to_vec(), bits.to_vec()],
        KeyAlgorithm::Rsa => {
            let mut numbers = Elements::of_sequence(bits, WHAT)?;
            let (modulus, exponent) = (numbers.value(Tag::Integer)?, numbers.value(Tag::Integer)?);
            vec![b"ssh-rsa".to_vec(), exponent.to_vec(), modulus.to_vec()]
        }
    };
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(u32::try_from(part.len()).map_err(|_| Malformed(WHAT))?.to_be_bytes());
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Public keys of the fixtures, and their fingerprints.
    const KEYS: [(&str, &str); 5] = [
        ("p256", "SHA256:xjMgpx0nFmNOC7juJqUYId5WDQEoPMPCv5llreh5oTo"),
        ("imp-ec-P-384", "SHA256:ERKr3393xP0SJylalF9kJfPrdwDma7y8JmG2Y932S6E"),
        ("imp-ec-P-521", "SHA256:Ul2oUVOQRH6AnSuyFmY82ep6FPafb0hda7HpjyX5OCQ"),
        ("imp-ed25519", "SHA256:lVRq42iiss8KeU0RBYclbe1dn6YOtbe5CZI9myJ46vU"),
        ("imp-rsa2048", "SHA256:5JU240KT+HHelQdJgk6gSX/rU1enPGNXhh4Wz+o4JMI"),
    ];

    #[test]
    fn a_keys_name_is_its_fingerprint() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cosign/keys");
        for (name, fingerprint) in KEYS {
            let pem = std::fs::read(format!("{folder}/{name}.pub")).expect(name);
            let key = PublicKey::from_pem(&pem).expect(name);
            assert!(is_of(fingerprint, &key), "{name}");
            assert!(!is_of(&fingerprint.to_lowercase(), &key) && !is_of("", &key), "{name}");
        }
    }
}
