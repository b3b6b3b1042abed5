//! Entries of Rekor, versions 1 and 2: that a log took this signature in, and when it says that it did.
//!
//! Everything in an entry must agree: its kind and version with its body, its body with the signature, the signer and what
//! was signed, its proof with its checkpoint, and its checkpoint with the log's key (facts/sigstore.md 6.2 and 6.3). cosign
//! looks at less; docs/keyless.md lists where.

mod body;
mod checkpoint;
mod merkle;
mod proposal;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

pub(super) use body::{Body, BodyContent, Dialect, Verifier};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use proposal::{AnswerError, ProposalError, RekorVersion, proposal, read_v1};

use super::message::Hashes;
use super::root::{Log, TrustedRoot};
use super::window::Window;
use super::{Claim, Signed};
use crate::check::Checker;
use crate::digest::hex;
use crate::key::{AnchorId, KeyAlgorithm, PublicKey};
use crate::signature::bundle::{InclusionProof, LogEntry};

/// Said of an entry where the root does not name its log.
pub(super) const UNKNOWN_LOG: &str = "it is of a log that is not in the trusted root";

/// What came of looking at an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A trusted log took this signature in.
    Proven(ProvenEntry),
    /// It proves nothing and harms nothing: of a log that is not trusted, or its promise does not verify.
    NotCounted(String),
    /// It contradicts the signature, or itself: where entries count at all, nothing with it is accepted.
    Broken(String),
}

/// An entry that was checked in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenEntry {
    /// The log.
    pub log: AnchorId,
    /// The id by which entries name the log: what thresholds count.
    pub log_id: Vec<u8>,
    /// When the log's key is valid.
    pub window: Window,
    /// The entry's number.
    pub log_index: u64,
    /// When the log took it in: only where the log signed that time, which Rekor v2 never does.
    pub integrated: Option<Timestamp>,
}

/// Examines one entry.
pub(super) fn examine(
    entry: &LogEntry,
    claim: &Claim<'_>,
    hashes: &Hashes,
    leaf: Option<Window>,
    root: &TrustedRoot,
) -> Entry {
    let body = match Body::parse(&entry.body) {
        Ok(body) => body,
        Err(error) => return Entry::Broken(error.to_string()),
    };
    if (body.kind.as_str(), body.version.as_str()) != (&entry.kind, &entry.kind_version) {
        return Entry::Broken("its kind and version are not its body's".to_owned());
    }
    let claimed = match entry
        .integrated_time
        .map(|time| i64::try_from(time).ok().and_then(|time| Timestamp::from_second(time).ok()))
    {
        Some(None) => return Entry::Broken("its time is out of range".to_owned()),
        Some(Some(time)) => Some(time),
        None => None,
    };
    let mut outcome = Entry::NotCounted(UNKNOWN_LOG.to_owned());
    for log in root.logs.iter().filter(|log| log.log_id == entry.log_id) {
        outcome = match prove(entry, &body, log, claimed) {
            Ok(integrated) => Entry::Proven(ProvenEntry {
                log: log.id,
                log_id: log.log_id.to_vec(),
                window: log.window,
                log_index: entry.log_index,
                integrated,
            }),
            Err(outcome) => outcome,
        };
        if matches!(outcome, Entry::Proven(_)) {
            break;
        }
    }
    if !matches!(outcome, Entry::Proven(_)) {
        return outcome;
    }
    if let Err(fault) = bind(&body, claim, hashes) {
        return Entry::Broken(fault);
    }
    match (claimed, leaf) {
        (Some(time), Some(leaf)) if !leaf.contains(time) => {
            Entry::Broken(format!("it is of {time}, when the certificate was not valid"))
        }
        _ => outcome,
    }
}

/// Checks what the log signed; returns the time that it signed.
fn prove(entry: &LogEntry, body: &Body, log: &Log, claimed: Option<Timestamp>) -> Result<Option<Timestamp>, Entry> {
    if entry.promise.is_none() && entry.proof.is_none() {
        return Err(Entry::Broken("it has neither a promise nor a proof".to_owned()));
    }
    if body.dialect == Dialect::V2 && entry.proof.is_none() {
        return Err(Entry::Broken("it has no inclusion proof".to_owned()));
    }
    if let Some(time) = claimed.filter(|time| !log.window.contains(*time)) {
        return Err(Entry::NotCounted(format!("it is of {time}, when its log's key was not valid")));
    }
    let integrated = match &entry.promise {
        None => None,
        Some(promise) => {
            let is_good = body.dialect == Dialect::V1 && is_ecdsa(&log.key) && promise_holds(entry, promise, log);
            if !is_good {
                return Err(Entry::NotCounted("its signed entry timestamp does not verify".to_owned()));
            }
            claimed
        }
    };
    if let Some(proof) = &entry.proof {
        included(entry, proof, body.dialect, log).map_err(Entry::Broken)?;
    }
    Ok(integrated)
}

fn is_ecdsa(key: &PublicKey) -> bool {
    matches!(key.algorithm(), KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::EcdsaP521)
}

/// Checks a signed entry timestamp: RFC 8785's form of what Rekor v1 promised.
fn promise_holds(entry: &LogEntry, promise: &[u8], log: &Log) -> bool {
    let signed = format!(
        r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
        STANDARD.encode(&entry.body),
        entry.integrated_time.unwrap_or(0),
        hex(&entry.log_id),
        entry.log_index,
    );
    Checker::new(signed.as_bytes(), promise).check(&log.key).is_some()
}

/// Checks that the entry is in the tree whose checkpoint the log signed.
fn included(entry: &LogEntry, proof: &InclusionProof, dialect: Dialect, log: &Log) -> Result<(), String> {
    let checkpoint = Checkpoint::parse(&proof.checkpoint).map_err(|error| error.to_string())?;
    match dialect {
        Dialect::V1 => checkpoint.verify_v1(&log.key)?,
        Dialect::V2 => {
            if entry.log_index != proof.log_index {
                return Err("its two log indexes differ".to_owned());
            }
            let host =
                host(&log.base_url).ok_or("its log has no base URL in the trusted root, so that it has no name")?;
            checkpoint.verify_v2(&log.key, host)?;
        }
    }
    if checkpoint.size != proof.tree_size {
        return Err("its checkpoint is of a tree of another size".to_owned());
    }
    if checkpoint.root[..] != proof.root_hash {
        return Err("its checkpoint is of a tree with another root".to_owned());
    }
    let root = merkle::root(&merkle::leaf(&entry.body), proof.log_index, proof.tree_size, &proof.hashes);
    if root == Some(checkpoint.root) {
        Ok(())
    } else {
        Err("its inclusion proof does not lead to the tree's root".to_owned())
    }
}

/// Returns the host of a URL, without port: Rekor v2's name.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => host.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

/// Checks that the entry is about this signature, by this signer, over this content.
fn bind(body: &Body, claim: &Claim<'_>, hashes: &Hashes) -> Result<(), String> {
    if body.signature.as_ref().is_some_and(|signature| signature != claim.signature) {
        return Err("it is of another signature".to_owned());
    }
    let is_signer = match (&body.verifier, claim.signer.certificate()) {
        (Verifier::Certificate(der), Some(leaf)) => der == leaf,
        (Verifier::Key(key), None) => claim.signer.key().is_some_and(|own| own == key),
        _ => false,
    };
    if !is_signer {
        return Err("it is of another certificate or key".to_owned());
    }
    if let Some(details) = body.key_details.as_deref() {
        let key = claim.signer.public_key();
        if key.is_none_or(|key| default_details(&key).as_deref() != Some(details)) {
            return Err("it names another kind of key".to_owned());
        }
    }
    let is_hash = |algorithm: &str, value: &[u8]| hashes.by_name(algorithm).is_some_and(|hash| hash == value);
    let fits = match (&body.content, &claim.signed) {
        (BodyContent::Message { algorithm, digest }, Signed::Message(_)) => is_hash(algorithm, digest),
        // Rekor v2 logs an envelope by the hash of what is signed.
        (BodyContent::Message { algorithm, digest }, Signed::Envelope { .. }) => {
            body.dialect == Dialect::V2 && is_hash(algorithm, digest)
        }
        (BodyContent::Envelope { payload_hash, envelope_hash }, Signed::Envelope { payload, written, .. }) => {
            let is_written = match (envelope_hash, written) {
                (Some(hash), Some(written)) => sha256(written) == *hash,
                // Without the envelope as it was written, the entry itself must have the signature.
                _ => body.signature.is_some(),
            };
            is_written && sha256(payload) == *payload_hash
        }
        (BodyContent::Envelope { .. }, Signed::Message(_)) => false,
    };
    if fits { Ok(()) } else { Err("it is of other content".to_owned()) }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// Returns what Rekor v2 calls a key (GetDefaultAlgorithmDetails, facts/sigstore.md 1.5).
fn default_details(key: &PublicKey) -> Option<String> {
    match key.algorithm() {
        KeyAlgorithm::EcdsaP256 => Some("PKIX_ECDSA_P256_SHA_256".to_owned()),
        KeyAlgorithm::EcdsaP384 => Some("PKIX_ECDSA_P384_SHA_384".to_owned()),
        KeyAlgorithm::EcdsaP521 => Some("PKIX_ECDSA_P521_SHA_512".to_owned()),
        KeyAlgorithm::Ed25519 => Some("PKIX_ED25519_PH".to_owned()),
        KeyAlgorithm::Rsa if [2048, 3072, 4096].contains(&key.bits()) => {
            Some(format!("PKIX_RSA_PKCS1V15_{}_SHA256", key.bits()))
        }
        KeyAlgorithm::Rsa => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logs_name_is_its_host() {
        assert_eq!(host("https://rekor2.local"), Some("rekor2.local"));
        assert_eq!(host("http://u@rekor2.local:3000/api?x"), Some("rekor2.local"));
        assert_eq!(host("https://[::1]:80/"), Some("::1"));
        assert_eq!(host("rekor2.local"), None);
        assert_eq!(host("https:///x"), None);
    }
}
