//! Bundles by keys, made here: with a log of one entry, of either Rekor, that trusts nobody.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::*;

const MESSAGE: &[u8] = b"a message";

/// Returns a key of P-256 from one byte.
fn p256_key(seed: u8) -> (p256::ecdsa::SigningKey, PublicKey) {
    use p256::pkcs8::EncodePublicKey as _;
    let signing = p256::ecdsa::SigningKey::from_slice(&[seed; 32]).expect("a scalar");
    let der = signing.verifying_key().to_public_key_der().expect("DER");
    let public = PublicKey::from_der(der.as_bytes()).expect("a key");
    (signing, public)
}

fn ed25519_key(seed: u8) -> (SigningKey, PublicKey) {
    let signing = SigningKey::from_bytes(&[seed; 32]);
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let spki = [&prefix[..], signing.verifying_key().as_bytes()].concat();
    (signing, PublicKey::from_der(&spki).expect("a key"))
}

fn sign(key: &p256::ecdsa::SigningKey, bytes: &[u8]) -> Vec<u8> {
    let signature: p256::ecdsa::DerSignature = key.sign(bytes);
    signature.as_bytes().to_vec()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn root(log: &PublicKey, details: &str, window: Value) -> TrustedRoot {
    let id = Sha256::digest(log.to_der());
    let root = json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot.v0.2+json",
        "tlogs": [{
            "baseUrl": "https://log.test:3000/x", "hashAlgorithm": "SHA2_256", "operator": "us",
            "publicKey": {"rawBytes": b64(log.to_der()), "keyDetails": details, "validFor": window},
            "logId": {"keyId": b64(id)}, "checkpointKeyId": {"keyId": b64(&id[..4])}
        }]
    });
    TrustedRoot::parse(root.to_string().as_bytes()).expect("a root")
}

fn bundle(log: &PublicKey, kind: [&str; 2], body: &str, checkpoint: &str, signature: &[u8]) -> Value {
    let leaf = Sha256::new().chain_update([0]).chain_update(body).finalize();
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "publicKey": {"hint": "anything"},
            "tlogEntries": [{
                "logId": {"keyId": b64(Sha256::digest(log.to_der()))},
                "kindVersion": {"kind": kind[0], "version": kind[1]},
                "inclusionProof": {"rootHash": b64(leaf), "treeSize": "1", "checkpoint": {"envelope": checkpoint}},
                "canonicalizedBody": b64(body)
            }]
        },
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": b64(Sha256::digest(MESSAGE))},
            "signature": b64(signature)
        }
    })
}

fn note(origin: &str, name: &str, body: &str, hint: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let leaf = Sha256::new().chain_update([0]).chain_update(body).finalize();
    let text = format!("{origin}\n1\n{}\n", b64(leaf));
    let signature = [hint, &sign(text.as_bytes())].concat();
    format!("{text}\n\u{2014} {name} {}\n", b64(signature))
}

/// A signature by the key 1, in Rekor v2's log.
fn in_rekor_2(details: &str) -> (Value, PublicKey, PublicKey) {
    let ((signing, signer), (log_signing, log)) = (p256_key(1), ed25519_key(9));
    let signature = sign(&signing, MESSAGE);
    let body = json!({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": {
        "data": {"algorithm": "SHA2_256", "digest": b64(Sha256::digest(MESSAGE))},
        "signature": {"content": b64(&signature), "verifier": {
            "keyDetails": details, "publicKey": {"rawBytes": b64(signer.to_der())}
        }}
    }}})
    .to_string();
    let named = Sha256::new().chain_update("log.test\n\x01").chain_update(log_signing.verifying_key().as_bytes());
    let hint = named.finalize();
    let checkpoint = note("log.test", "log.test", &body, &hint[..4], |text| log_signing.sign(text).to_bytes().to_vec());
    (bundle(&log, ["hashedrekord", "0.0.2"], &body, &checkpoint, &signature), signer, log)
}

fn check(value: &Value, key: &PublicKey, root: &TrustedRoot, demands: &Demands) -> Result<Accepted, Finding> {
    let bundle = parse(value)?;
    let claim = Claim::of_bundle(&bundle, Some(Message::Bytes(MESSAGE)), Some(key))?;
    examine(&claim, root).meets(demands)
}

#[test]
fn a_keys_signature_in_rekor_2() {
    let (bundle, signer, log) = in_rekor_2("PKIX_ECDSA_P256_SHA_256");
    let open = root(&log, "PKIX_ED25519", json!({"start": "2026-01-01T00:00:00Z"}));
    let accepted = check(&bundle, &signer, &open, &Demands::key(now())).expect("accepted");
    assert_eq!(accepted.entries.len(), 1);
    assert!(accepted.times.is_empty() && accepted.chain.is_none(), "{accepted:?}");
    let stranger = p256_key(2).1;
    assert_eq!(check(&bundle, &stranger, &open, &Demands::key(now())).expect_err("stranger").check, Check::Signature);
    // Nothing tells the time: the log's key must be valid now.
    let ended = root(&log, "PKIX_ED25519", json!({"start": "2026-01-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"}));
    assert_eq!(check(&bundle, &signer, &ended, &Demands::key(now())).expect_err("ended").check, Check::LogEntry);
    let without = Demands { logs: 0, ..Demands::key(now()) };
    assert!(check(&bundle, &signer, &TrustedRoot::default(), &without).is_ok(), "a key needs nobody else");
    let stamps = Demands { signed_timestamps: true, ..Demands::key(now()) };
    assert_eq!(check(&bundle, &signer, &open, &stamps).expect_err("no stamp").check, Check::Timestamp);
    let (odd, signer, _) = in_rekor_2("PKIX_ECDSA_P384_SHA_384");
    assert_eq!(check(&odd, &signer, &open, &Demands::key(now())).expect_err("odd").check, Check::LogEntry);
}

#[test]
fn a_keys_signature_in_rekor_1() {
    let ((signing, signer), (log_signing, log)) = (p256_key(1), p256_key(9));
    let signature = sign(&signing, MESSAGE);
    let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": {"hash": {"algorithm": "sha256", "value": crate::Digest::of(MESSAGE).hex()}},
        "signature": {"content": b64(&signature), "publicKey": {"content": b64(signer.to_pem())}}
    }})
    .to_string();
    let hint = Sha256::digest(log.to_der());
    let checkpoint = note("log.test - 77", "log.test", &body, &hint[..4], |text| sign(&log_signing, text));
    let good = bundle(&log, ["hashedrekord", "0.0.1"], &body, &checkpoint, &signature);
    let open = root(&log, "PKIX_ECDSA_P256_SHA_256", json!({"start": "2026-01-01T00:00:00Z"}));
    assert!(check(&good, &signer, &open, &Demands::key(now())).is_ok());
    // The same key in another spelling of PEM is the same key; another key in the entry is another signer.
    let other = body.replace(&b64(signer.to_pem()), &b64(p256_key(2).1.to_pem()));
    let checkpoint = note("log.test - 77", "log.test", &other, &hint[..4], |text| sign(&log_signing, text));
    let moved = bundle(&log, ["hashedrekord", "0.0.1"], &other, &checkpoint, &signature);
    assert_eq!(check(&moved, &signer, &open, &Demands::key(now())).expect_err("other").check, Check::LogEntry);
    // A time that the log did not sign is held against its window all the same.
    let mut early = good.clone();
    early["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = json!("1000000000");
    assert_eq!(check(&early, &signer, &open, &Demands::key(now())).expect_err("early").check, Check::LogEntry);
}

#[test]
fn a_certificate_in_the_bundle_never_replaces_the_key() {
    let bundle = parse(&json_of("blob-rekor1_tsa")).expect("a bundle");
    let refused = Claim::of_bundle(&bundle, Some(Message::Bytes(b"")), Some(&p256_key(1).1)).expect_err("refused");
    assert_eq!(refused.check, Check::Signer);
    let (keyed, ..) = in_rekor_2("PKIX_ECDSA_P256_SHA_256");
    let keyed = parse(&keyed).expect("a bundle");
    assert_eq!(Claim::of_bundle(&keyed, Some(Message::Bytes(b"")), None).expect_err("no key").check, Check::Signer);
    assert_eq!(Claim::of_bundle(&keyed, None, Some(&p256_key(1).1)).expect_err("no file").check, Check::Artifact);
}
