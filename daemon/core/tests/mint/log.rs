//! Transparency logs: Rekor of both versions, and the certificates' log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::certificate::{sign, spki};
use super::der::pem;

pub(crate) const REKOR_1: u8 = 31;
pub(crate) const REKOR_2: u8 = 32;
pub(crate) const CT_LOG: u8 = 33;
/// The name that both Rekors sign checkpoints by.
const HOST: &str = "log.test";

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Rekor v2's key.
pub(crate) fn ed25519() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[REKOR_2; 32])
}

/// Its SubjectPublicKeyInfo.
pub(crate) fn ed25519_spki() -> Vec<u8> {
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    [&prefix[..], ed25519().verifying_key().as_bytes()].concat()
}

/// What a log takes in.
pub(crate) struct Logged<'a> {
    /// The raw signature.
    pub(crate) signature: &'a [u8],
    /// The SHA-256 of what it is over.
    pub(crate) hash: &'a [u8],
    /// The signer's certificate.
    pub(crate) certificate: &'a [u8],
}

/// Makes an entry of Rekor v1, with its promise and its proof.
pub(crate) fn rekor_1(logged: &Logged<'_>, at: Timestamp) -> Value {
    let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": {"hash": {"algorithm": "sha256", "value": hex(logged.hash)}},
        "signature": {
            "content": b64(logged.signature),
            "publicKey": {"content": b64(pem("CERTIFICATE", logged.certificate))}
        }
    }})
    .to_string();
    let id = Sha256::digest(spki(REKOR_1));
    let promise = promise(&body, at);
    let (proof, text) = proof(&body, &format!("{HOST} - 7"));
    let checkpoint = note(&text, &id[..4], &sign(REKOR_1, text.as_bytes()));
    json!({
        "logIndex": "70", "logId": {"keyId": b64(id)}, "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"},
        "integratedTime": at.as_second().to_string(), "inclusionPromise": {"signedEntryTimestamp": b64(promise)},
        "inclusionProof": with_checkpoint(proof, checkpoint), "canonicalizedBody": b64(body)
    })
}

/// Signs an entry's time, as Rekor v1 does.
fn promise(body: &str, at: Timestamp) -> Vec<u8> {
    let id = hex(&Sha256::digest(spki(REKOR_1)));
    let signed =
        format!(r#"{{"body":"{}","integratedTime":{},"logID":"{id}","logIndex":70}}"#, b64(body), at.as_second());
    sign(REKOR_1, signed.as_bytes())
}

/// Makes an entry of Rekor v2.
pub(crate) fn rekor_2(logged: &Logged<'_>) -> Value {
    let body = json!({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": {
        "data": {"algorithm": "SHA2_256", "digest": b64(logged.hash)},
        "signature": {"content": b64(logged.signature), "verifier": {
            "keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": b64(logged.certificate)}
        }}
    }}})
    .to_string();
    let named = Sha256::new().chain_update(format!("{HOST}\n\x01")).chain_update(ed25519().verifying_key().as_bytes());
    let (proof, text) = proof(&body, HOST);
    let checkpoint = note(&text, &named.finalize()[..4], &ed25519().sign(text.as_bytes()).to_bytes());
    json!({
        "logIndex": "0", "logId": {"keyId": b64(Sha256::digest(ed25519_spki()))},
        "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
        "inclusionProof": with_checkpoint(proof, checkpoint), "canonicalizedBody": b64(body)
    })
}

/// Proves that a body is the first of a tree's two leaves; returns the text of the checkpoint too.
fn proof(body: &str, origin: &str) -> (Value, String) {
    let leaf = Sha256::new().chain_update([0]).chain_update(body).finalize();
    let sibling = Sha256::digest("another leaf");
    let root = Sha256::new().chain_update([1]).chain_update(leaf).chain_update(sibling).finalize();
    let proof = json!({"rootHash": b64(root), "treeSize": "2", "logIndex": "0", "hashes": [b64(sibling)]});
    (proof, format!("{origin}\n2\n{}\n", b64(root)))
}

fn note(text: &str, hint: &[u8], signature: &[u8]) -> String {
    format!("{text}\n\u{2014} {HOST} {}\n", b64([hint, signature].concat()))
}

fn with_checkpoint(mut proof: Value, checkpoint: String) -> Value {
    proof["checkpoint"] = json!({"envelope": checkpoint});
    proof
}

/// Makes the list with one SCT over a certificate that is yet to get it (RFC 6962, 3.2).
pub(crate) fn scts(precertificate: &[u8], issuer: u8, at: Timestamp, log: u8) -> Vec<u8> {
    let time = u64::try_from(at.as_millisecond()).expect("after 1970").to_be_bytes();
    let length = u32::try_from(precertificate.len()).expect("short").to_be_bytes();
    let issuer = Sha256::digest(spki(issuer));
    let signed = [&[0, 0][..], &time, &[0, 1], &issuer, &length[1..], precertificate, &[0, 0]].concat();
    let id = Sha256::digest(spki(CT_LOG));
    let sct = [&[0][..], &id, &time, &[0, 0, 4, 3], &vector(&sign(log, &signed))].concat();
    vector(&vector(&sct))
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
