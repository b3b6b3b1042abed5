//! What a signer sends to Rekor so that it takes a signature in, and what Rekor version 1 answers.
//!
//! Version 1 takes messages as `hashedrekord 0.0.1` and envelopes as `dsse 0.0.1`; version 2 takes both as
//! `hashedrekord 0.0.2`, by the hash of what is signed, and answers with a TransparencyLogEntry
//! ([`LogEntry::parse`]) (facts/sigstore.md 6.2).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pem::{EncodeConfig, LineEnding, Pem};
use serde::Deserialize;
use serde_json::json;

use super::{Body, default_details, sha256};
use crate::digest::{hex, unhex};
use crate::keyless::{Claim, Signed, Signer};
use crate::signature::bundle::{InclusionProof, LogEntry, MAX_ENTRY_BYTES};
use crate::signature::bundle_writer;
use crate::signature::dsse::pae;

/// A version of Rekor's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RekorVersion {
    /// `/api/v1/log/entries`.
    V1,
    /// `/api/v2/log/entries`.
    V2,
}

/// Says why a signature cannot be shown to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// A hash alone is known of the message.
    #[error("only its hash is at hand, and the log asks for more")]
    HashOnly,
    /// Rekor v2 takes each kind of key with one hash, and that is not the one that was signed with.
    #[error("Rekor v2 does not take signatures as this kind of key makes them here; P-256 and RSA keys it does")]
    KeyKind,
}

/// Says why an answer of Rekor's is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is too long.
    #[error("it has {0} bytes; at most 2 MiB are read")]
    TooLong(usize),
    /// It is not of the shape that it must have.
    #[error("it is no entry: {0}")]
    Malformed(String),
}

impl RekorVersion {
    /// Returns the path, below the log's URL, that takes proposals.
    pub fn path(self) -> &'static str {
        match self {
            Self::V1 => "/api/v1/log/entries",
            Self::V2 => "/api/v2/log/entries",
        }
    }
}

/// Writes what a log is asked to take in: JSON.
///
/// # Errors
/// Fails where the log would not take such a signature.
pub fn proposal(claim: &Claim<'_>, version: RekorVersion) -> Result<Vec<u8>, ProposalError> {
    let proposal = match (version, &claim.signed) {
        (RekorVersion::V1, Signed::Message(message)) => {
            let hash = message.hashes().by_name("sha256").ok_or(ProposalError::HashOnly)?;
            json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hex(&hash)}},
                "signature": {"content": STANDARD.encode(claim.signature), "publicKey": {"content": verifier(claim)}},
            }})
        }
        (RekorVersion::V1, Signed::Envelope { payload, written, .. }) => {
            let own = bundle_writer::envelope(payload, claim.signature);
            let envelope = String::from_utf8_lossy(written.unwrap_or(&own));
            json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
                "proposedContent": {"envelope": envelope, "verifiers": [verifier(claim)]},
            }})
        }
        (RekorVersion::V2, signed) => {
            let hash = match signed {
                Signed::Message(message) => message.hashes().by_name("sha256").ok_or(ProposalError::HashOnly)?,
                Signed::Envelope { payload_type, payload, .. } => sha256(&pae(payload_type, payload)),
            };
            let details = claim.signer.public_key().and_then(|key| default_details(&key));
            let details = details.filter(|details| details.ends_with("SHA_256") || details.ends_with("_SHA256"));
            let mut verifier = json!({"keyDetails": details.ok_or(ProposalError::KeyKind)?});
            match claim.signer {
                Signer::Certificate { leaf, .. } => {
                    verifier["x509Certificate"] = json!({"rawBytes": STANDARD.encode(leaf)});
                }
                Signer::Key(key) => verifier["publicKey"] = json!({"rawBytes": STANDARD.encode(key.to_der())}),
            }
            json!({"hashedRekordRequestV002": {
                "digest": STANDARD.encode(hash),
                "signature": {"content": STANDARD.encode(claim.signature), "verifier": verifier},
            }})
        }
    };
    Ok(proposal.to_string().into_bytes())
}

/// Writes the signer as Rekor v1 asks for it: PEM, in base64.
fn verifier(claim: &Claim<'_>) -> String {
    let block = match claim.signer {
        Signer::Certificate { leaf, .. } => Pem::new("CERTIFICATE", leaf.as_ref()),
        Signer::Key(key) => Pem::new("PUBLIC KEY", key.to_der()),
    };
    STANDARD.encode(pem::encode_config(&block, EncodeConfig::new().set_line_ending(LineEnding::LF)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerJson {
    body: String,
    integrated_time: u64,
    #[serde(rename = "logID")]
    log_id: String,
    log_index: u64,
    verification: VerificationJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationJson {
    signed_entry_timestamp: String,
    inclusion_proof: ProofJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProofJson {
    log_index: u64,
    root_hash: String,
    tree_size: u64,
    hashes: Vec<String>,
    checkpoint: String,
}

/// Reads Rekor v1's answer: one entry, under its UUID. Whether it is of this signature, and proves anything, is for
/// [`examine`](crate::keyless::examine) to say.
///
/// # Errors
/// Fails where it is none.
pub fn read_v1(answer: &[u8]) -> Result<LogEntry, AnswerError> {
    if answer.len() > MAX_ENTRY_BYTES {
        return Err(AnswerError::TooLong(answer.len()));
    }
    let malformed = |what: &str| AnswerError::Malformed(what.to_owned());
    let answers: BTreeMap<String, AnswerJson> =
        serde_json::from_slice(answer).map_err(|error| AnswerError::Malformed(error.to_string()))?;
    let mut answers = answers.into_values();
    let (Some(answer), None) = (answers.next(), answers.next()) else {
        return Err(malformed("it does not hold exactly one"));
    };
    let base64 = |text: &str| STANDARD.decode(text).ok().map(Bytes::from);
    let body = base64(&answer.body).ok_or_else(|| malformed("its body is no base64"))?;
    let Body { kind, version, .. } = Body::parse(&body).map_err(|error| AnswerError::Malformed(error.to_string()))?;
    let promise = base64(&answer.verification.signed_entry_timestamp);
    let promise = promise.ok_or_else(|| malformed("its signed entry timestamp is no base64"))?;
    let from_hex = |text: &str| unhex(text).map(Bytes::from).ok_or_else(|| malformed("one of its hashes is no hex"));
    let proof = answer.verification.inclusion_proof;
    let entry = LogEntry {
        log_index: answer.log_index,
        log_id: from_hex(&answer.log_id)?,
        kind,
        kind_version: version,
        integrated_time: Some(answer.integrated_time).filter(|time| *time != 0),
        promise: Some(promise),
        proof: Some(InclusionProof {
            log_index: proof.log_index,
            root_hash: from_hex(&proof.root_hash)?,
            tree_size: proof.tree_size,
            hashes: proof.hashes.iter().map(|hash| from_hex(hash)).collect::<Result<_, _>>()?,
            checkpoint: proof.checkpoint,
        }),
        body,
    };
    // What is written must be read again by everybody: the bounds of bundles hold here, too.
    LogEntry::parse(&entry.to_json()).map_err(|error| AnswerError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::signature::bundle::Bundle;

    fn bundle(name: &str) -> Bundle {
        let path = format!("../../tests/fixtures/cosign/keyless/bundles/{name}.json");
        Bundle::parse(&std::fs::read(&path).expect("a bundle")).expect("a bundle")
    }

    fn sent(bundle: &Bundle, version: RekorVersion) -> Value {
        let claim = Claim::of_bundle(bundle, None, None).expect("a claim");
        serde_json::from_slice(&proposal(&claim, version).expect("a proposal")).expect("JSON")
    }

    /// What cosign logged says what must be sent for it.
    #[test]
    fn envelopes_are_sent_as_cosign_sends_them() {
        let made = bundle("attest-rekor2_tsa");
        let body: Value = serde_json::from_slice(&made.entries[0].body).expect("JSON");
        let logged = &body["spec"]["hashedRekordV002"];
        let sent_v2 = &sent(&made, RekorVersion::V2)["hashedRekordRequestV002"];
        assert_eq!(sent_v2["digest"], logged["data"]["digest"]);
        assert_eq!(sent_v2["signature"], logged["signature"]);

        let made = bundle("attest-rekor1_tsa");
        let body: Value = serde_json::from_slice(&made.entries[0].body).expect("JSON");
        let sent_v1 = sent(&made, RekorVersion::V1);
        assert_eq!((&sent_v1["kind"], &sent_v1["apiVersion"]), (&json!("dsse"), &json!("0.0.1")));
        let proposed = &sent_v1["spec"]["proposedContent"];
        assert_eq!(proposed["verifiers"][0], body["spec"]["signatures"][0]["verifier"]);
        let envelope: Value = serde_json::from_str(proposed["envelope"].as_str().expect("text")).expect("JSON");
        assert_eq!(envelope["signatures"][0]["sig"], body["spec"]["signatures"][0]["signature"]);
    }

    fn answer() -> Value {
        let made = bundle("attest-rekor1_tsa");
        let entry = &made.entries[0];
        let proof = entry.proof.as_ref().expect("a proof");
        json!({"24296fb24b8ad77a": {
            "body": STANDARD.encode(&entry.body), "integratedTime": entry.integrated_time, "logID": hex(&entry.log_id),
            "logIndex": entry.log_index, "attestation": {"data": "e30="},
            "verification": {
                "signedEntryTimestamp": STANDARD.encode(entry.promise.as_ref().expect("a promise")),
                "inclusionProof": {
                    "logIndex": proof.log_index, "rootHash": hex(&proof.root_hash), "treeSize": proof.tree_size,
                    "hashes": proof.hashes.iter().map(|hash| hex(hash)).collect::<Vec<_>>(),
                    "checkpoint": proof.checkpoint,
                },
            },
        }})
    }

    #[test]
    fn answers_of_version_1_are_read() {
        let read = read_v1(answer().to_string().as_bytes());
        assert_eq!(read.as_ref(), Ok(&bundle("attest-rekor1_tsa").entries[0]));
    }

    #[test]
    fn other_answers_are_refused() {
        let refuse = |change: &dyn Fn(&mut Value), words: &str| {
            let mut changed = answer();
            change(&mut changed["24296fb24b8ad77a"]);
            let error = read_v1(changed.to_string().as_bytes()).expect_err(words).to_string();
            assert!(error.contains(words), "{words}: {error}");
        };
        refuse(&|entry| entry["body"] = json!("%"), "its body is no base64");
        refuse(&|entry| entry["body"] = json!("e30="), "spec is missing");
        refuse(&|entry| entry["logID"] = json!("xyz"), "no hex");
        refuse(&|entry| entry["integratedTime"] = json!(-1), "no entry");
        refuse(&|entry| entry["verification"]["signedEntryTimestamp"] = json!("%"), "no base64");
        refuse(&|entry| entry["verification"]["inclusionProof"]["hashes"] = json!(vec!["00"; 65]), "at most 64");
        refuse(&|entry| entry["verification"]["inclusionProof"] = Value::Null, "no entry");
        assert!(read_v1(b"{}").is_err() && read_v1(b"[]").is_err());
        let mut two = answer();
        two["other"] = two["24296fb24b8ad77a"].clone();
        assert!(read_v1(two.to_string().as_bytes()).is_err());
        assert!(matches!(read_v1(&vec![b' '; MAX_ENTRY_BYTES + 1]), Err(AnswerError::TooLong(_))));
    }
}
