//! The libraries agree: what aws-lc-rs and ed25519-dalek accept, others accept, and the other way round,
//! on random and on hostile input.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self as aws, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, ParsedPublicKey, RsaKeyPair,
};
use ed25519_dalek::{Signer as _, SigningKey as Ed25519Key};
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use p256::ecdsa::{Signature as P256Signature, SigningKey as P256Key, VerifyingKey as P256Verifying};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use proptest::prelude::*;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::*;

/// The order of P-256's group (SEC 2, 2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn check_bytes(message: &[u8], signature: &[u8], key: &PublicKey) -> Option<SignedHash> {
    Checker::new(message, signature).check(key)
}

fn p256_key(seed: u8) -> (P256Key, PublicKey) {
    let key = P256Key::from_slice(&[seed; 32]).expect("scalar");
    let pem = p256::PublicKey::from(key.verifying_key()).to_public_key_pem(LineEnding::LF).expect("PEM");
    (key, PublicKey::from_pem(pem.as_bytes()).expect("key"))
}

fn hash(kind: SignedHash, message: &[u8]) -> Vec<u8> {
    match kind {
        SignedHash::Sha256 => Sha256::digest(message).to_vec(),
        SignedHash::Sha384 => Sha384::digest(message).to_vec(),
        SignedHash::Sha512 => Sha512::digest(message).to_vec(),
        SignedHash::Sha224 => Sha224::digest(message).to_vec(),
        SignedHash::None => message.to_vec(),
    }
}

/// What the p256 crate says, with the same order of hashes, and the same two encodings.
fn by_p256(message: &[u8], signature: &[u8], key: &P256Verifying) -> Option<SignedHash> {
    let parsed = match P256Signature::from_der(signature) {
        Ok(parsed) => parsed,
        Err(_) if is_ecdsa_der(signature) => return None,
        Err(_) => P256Signature::from_slice(signature).ok()?,
    };
    [SignedHash::Sha256, SignedHash::Sha384, SignedHash::Sha512, SignedHash::Sha224]
        .into_iter()
        .find(|&kind| key.verify_prehash(&hash(kind, message), &parsed).is_ok())
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    [&[2, u8::try_from(bytes.len()).expect("short")], bytes].concat()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&[0x30, u8::try_from(content.len()).expect("short")], content.as_slice()].concat()
}

/// DER of two numbers of 32 bytes, with a zero before each: not the shortest form unless the first bit is set.
fn padded(r: &[u8], s: &[u8]) -> Vec<u8> {
    sequence(&[&integer(&[&[0], r].concat()), &integer(&[&[0], s].concat())])
}

fn minus(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut difference: Vec<u8> = left
        .iter()
        .zip(right)
        .rev()
        .map(|(&left, &right)| {
            let value = i16::from(left) - i16::from(right) - borrow;
            borrow = i16::from(value < 0);
            u8::try_from(value.rem_euclid(256)).expect("a byte")
        })
        .collect();
    difference.reverse();
    difference
}

#[test]
fn hostile_ecdsa() {
    let (key, ours) = p256_key(7);
    let message = b"message";
    let good: P256Signature = key.sign_prehash(&hash(SignedHash::Sha256, message)).expect("signed");
    let raw = good.to_bytes();
    let (r, s) = raw.split_at(32);
    let der = good.to_der().as_bytes().to_vec();
    let mirrored = [r, &minus(&ORDER, s)].concat();
    let zero = [0; 32];
    let long_length = [&[0x30, 0x81, der[1]], &der[2..]].concat();
    let mut cases: Vec<(Vec<u8>, bool)> = vec![
        (der.clone(), true),
        (raw.to_vec(), true),
        (mirrored.clone(), true), // n - s is as good as s (ECDSA is malleable; ids are made of the bytes)
        (P256Signature::from_slice(&mirrored).expect("mirrored").to_der().as_bytes().to_vec(), true),
        (Vec::new(), false),
        (vec![0x30], false),
        (vec![0x30, 0], false),
        (vec![0x30, 0x80], false),
        (vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff], false),
        (vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 2, 1, 1], false),
        (sequence(&[&integer(&[0]), &integer(&[0])]), false),
        (sequence(&[&integer(&[1]), &integer(&[0])]), false),
        (sequence(&[&integer(&[0]), &integer(&[1])]), false),
        (sequence(&[&integer(&[1]), &integer(&[1])]), false),
        (sequence(&[&integer(&[0x81]), &integer(&[1])]), false),
        (sequence(&[&integer(&[]), &integer(&[])]), false),
        (sequence(&[&integer(&[1])]), false),
        (sequence(&[&integer(&[1]), &integer(&[1]), &integer(&[1])]), false),
        (sequence(&[&integer(&[0; 60]), &integer(&[1; 60])]), false),
        (padded(&ORDER, s), false),
        (padded(r, &ORDER), false),
        (padded(&[0xff; 32], &[0xff; 32]), false),
        (long_length, false),
        ([der.as_slice(), &[0]].concat(), false),
        (der[..der.len() - 1].to_vec(), false),
        ([&zero[..], s].concat(), false),
        ([r, &zero].concat(), false),
        ([&zero[..], &zero].concat(), false),
        ([&ORDER[..], s].concat(), false),
        ([s, r].concat(), false),
        (raw[..63].to_vec(), false),
        ([&[0], &raw[..], &[0]].concat(), false),
        (vec![0; 64], false),
        (vec![0xff; 64], false),
        (vec![0xff; 100_000], false),
    ];
    for at in 0..der.len() {
        for bit in 0..8 {
            let mut flipped = der.clone();
            flipped[at] ^= 1 << bit;
            cases.push((flipped, false));
        }
    }
    for (signature, valid) in cases {
        let expected = valid.then_some(SignedHash::Sha256);
        assert_eq!(check_bytes(message, &signature, &ours), expected, "aws-lc-rs: {signature:02x?}");
        assert_eq!(by_p256(message, &signature, key.verifying_key()), expected, "p256: {signature:02x?}");
    }
}

#[test]
fn ed25519_pure_prehashed_and_hostile() {
    let key = Ed25519Key::from_bytes(&[9; 32]);
    let pem = {
        use ed25519_dalek::pkcs8::EncodePublicKey as _;
        key.verifying_key().to_public_key_pem(LineEnding::LF).expect("PEM")
    };
    let ours = PublicKey::from_pem(pem.as_bytes()).expect("key");
    let pure = key.sign(b"message").to_bytes();
    assert_eq!(check_bytes(b"message", &pure, &ours), Some(SignedHash::None));
    let prehashed = key.sign_prehashed(Sha512::new().chain_update(b"message"), None).expect("signed");
    assert_eq!(check_bytes(b"message", &prehashed.to_bytes(), &ours), Some(SignedHash::Sha512));
    let in_context = key.sign_prehashed(Sha512::new().chain_update(b"message"), Some(b"x")).expect("signed");
    assert_eq!(check_bytes(b"message", &in_context.to_bytes(), &ours), None);

    let by_aws = ParsedPublicKey::new(&aws::ED25519, key.verifying_key().as_bytes()).expect("key");
    for at in 0..pure.len() * 8 {
        let mut flipped = pure;
        flipped[at / 8] ^= 1 << (at % 8);
        assert_eq!(check_bytes(b"message", &flipped, &ours), None, "bit {at}");
        assert!(by_aws.verify_sig(b"message", &flipped).is_err(), "bit {at}");
    }
    assert!(by_aws.verify_sig(b"message", &pure).is_ok());
    // s + L is the same number, written so that it does not look it (RFC 8032, 5.1.7).
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    let mut longer = pure;
    for (byte, add) in longer[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).expect("a byte");
        carry = sum >> 8;
    }
    for hostile in [&longer[..], &[], &[0; 64], &[0xff; 64], &pure[..63], &[&pure[..], &[0]].concat()] {
        assert_eq!(check_bytes(b"message", hostile, &ours), None);
        assert!(by_aws.verify_sig(b"message", hostile).is_err());
    }
}

#[test]
fn rsa_in_every_hash_and_hostile() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cosign/keys");
    let read = |name: &str| std::fs::read(format!("{folder}/{name}")).expect(name);
    let private = pem::parse(read("rsa2048.pem")).expect("PEM");
    let private = RsaKeyPair::from_pkcs8(private.contents()).expect("key");
    let ours = PublicKey::from_pem(&read("imp-rsa2048.pub")).expect("key");
    let sign = |padding: &'static dyn aws::RsaEncoding| {
        let mut signature = vec![0; private.public_modulus_len()];
        private.sign(padding, &SystemRandom::new(), b"message", &mut signature).expect("signed");
        signature
    };
    let good = sign(&aws::RSA_PKCS1_SHA256);
    assert_eq!(check_bytes(b"message", &good, &ours), Some(SignedHash::Sha256));
    assert_eq!(check_bytes(b"message", &sign(&aws::RSA_PKCS1_SHA384), &ours), Some(SignedHash::Sha384));
    assert_eq!(check_bytes(b"message", &sign(&aws::RSA_PKCS1_SHA512), &ours), Some(SignedHash::Sha512));
    assert_eq!(check_bytes(b"message", &sign(&aws::RSA_PSS_SHA256), &ours), None, "cosign does not try PSS");
    assert_eq!(check_bytes(b"massage", &good, &ours), None);
    for hostile in [&[][..], &[0; 256], &[0xff; 256], &good[1..], &[&[0], &good[..]].concat(), &[1; 5000]] {
        assert_eq!(check_bytes(b"message", hostile, &ours), None);
    }
}

#[test]
fn the_larger_curves_in_both_encodings() {
    const CASES: [(&EcdsaSigningAlgorithm, SignedHash); 5] = [
        (&aws::ECDSA_P384_SHA384_ASN1_SIGNING, SignedHash::Sha384),
        (&aws::ECDSA_P384_SHA384_FIXED_SIGNING, SignedHash::Sha384),
        (&aws::ECDSA_P521_SHA512_ASN1_SIGNING, SignedHash::Sha512),
        (&aws::ECDSA_P521_SHA512_FIXED_SIGNING, SignedHash::Sha512),
        (&aws::ECDSA_P521_SHA256_FIXED_SIGNING, SignedHash::Sha256),
    ];
    for (algorithm, hash) in CASES {
        let private = EcdsaKeyPair::generate(algorithm).expect("key");
        let der = private.public_key().as_der().expect("DER");
        let pem = pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref()));
        let ours = PublicKey::from_pem(pem.as_bytes()).expect("key");
        // Many, for numbers that begin with zeros.
        for message in 0..200_u16 {
            let message = message.to_be_bytes();
            let signature = private.sign(&SystemRandom::new(), &message).expect("signed");
            assert_eq!(check_bytes(&message, signature.as_ref(), &ours), Some(hash));
            assert_eq!(check_bytes(b"other", signature.as_ref(), &ours), None);
        }
    }
}

/// OpenSSL's signatures over SHA-224: `openssl dgst -sha224 -sign KEY.pem`, keys of the fixtures, message `message`.
#[test]
fn ecdsa_over_sha_224_and_rsa_over_it_not() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
    for (name, expected) in [
        ("sec1", Some(SignedHash::Sha224)),
        ("ec-P-384", Some(SignedHash::Sha224)),
        ("ec-P-521", Some(SignedHash::Sha224)),
        ("rsa2048", None),
    ] {
        let pem = std::fs::read(format!("{folder}/cosign/keys/imp-{name}.pub")).expect(name);
        let signature = std::fs::read(format!("{folder}/vectors/sha224/{name}.sig")).expect(name);
        let key = PublicKey::from_pem(&pem).expect(name);
        assert_eq!(check_bytes(b"message", &signature, &key), expected, "{name}");
        assert_eq!(check_bytes(b"massage", &signature, &key), None, "{name}");
    }
}

#[test]
fn one_signature_against_many_keys() {
    let (key, ours) = p256_key(4);
    let (_, others) = p256_key(5);
    let signature: P256Signature = key.sign_prehash(&hash(SignedHash::Sha512, b"m")).expect("signed");
    let signature = signature.to_der();
    let checker = Checker::new(b"m", signature.as_bytes());
    for _ in 0..2 {
        assert_eq!(checker.check(&others), None);
        assert_eq!(checker.check(&ours), Some(SignedHash::Sha512));
    }
}

#[test]
fn one_key_does_not_check_anothers() {
    let (key, ours) = p256_key(1);
    let (_, others) = p256_key(2);
    let signature: P256Signature = key.sign_prehash(&hash(SignedHash::Sha256, b"m")).expect("signed");
    let signature = signature.to_der();
    assert!(check_bytes(b"m", signature.as_bytes(), &ours).is_some());
    assert!(check_bytes(b"m", signature.as_bytes(), &others).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn random_ecdsa(
        seed in 1_u8..,
        message in proptest::collection::vec(any::<u8>(), 0..100),
        kind in prop::sample::select(&[SignedHash::Sha256, SignedHash::Sha384, SignedHash::Sha512, SignedHash::Sha224][..]),
        is_raw in any::<bool>(),
        edit in 0_u8..4,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (key, ours) = p256_key(seed.min(0xfe));
        let signature: P256Signature = key.sign_prehash(&hash(kind, &message)).expect("signed");
        let good = if is_raw { signature.to_bytes().to_vec() } else { signature.to_der().as_bytes().to_vec() };
        let mut edited = good.clone();
        let at = at.index(edited.len());
        match edit {
            0 => {}
            1 => edited[at] = byte,
            2 => edited.insert(at, byte),
            _ => { edited.remove(at); }
        }
        let result = check_bytes(&message, &edited, &ours);
        prop_assert_eq!(result, by_p256(&message, &edited, key.verifying_key()));
        if edited == good {
            prop_assert_eq!(result, Some(kind));
        }
    }

    #[test]
    fn random_bytes_are_no_signature(bytes in proptest::collection::vec(any::<u8>(), 0..150)) {
        let (key, ours) = p256_key(3);
        prop_assert_eq!(check_bytes(b"m", &bytes, &ours), None);
        prop_assert_eq!(by_p256(b"m", &bytes, key.verifying_key()), None);
    }
}
