//! Entries of transparency logs, as bundles bring them (sigstore_rekor.proto).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

use super::BundleError;
use crate::protojson::{FieldError, Json, Message};
use crate::signature::go_json;

/// The most hashes of an inclusion proof: a tree of 2^63 leaves has that many levels.
const MAX_HASHES: usize = 64;
/// The most bytes that a checkpoint may have; one with twenty witnesses has 2 KiB.
const MAX_CHECKPOINT_BYTES: usize = 64 << 10;
/// The most bytes that an entry's body may have: it holds hashes, a signature and a certificate.
const MAX_BODY_BYTES: usize = 1 << 20;
/// The most bytes that an entry by itself may have, in JSON: its body in base64, a proof and a checkpoint.
pub const MAX_ENTRY_BYTES: usize = 2 << 20;

/// An entry of a transparency log, with what the log promised and proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The entry's number in the whole log, over all its shards.
    pub log_index: u64,
    /// The log's id.
    pub log_id: Bytes,
    /// The body's kind, as `hashedrekord`.
    pub kind: String,
    /// The body's version, as `0.0.1`.
    pub kind_version: String,
    /// When the log took it in, in seconds; Rekor v2 says none.
    pub integrated_time: Option<u64>,
    /// Rekor v1's signature over body, time, log and index (the SET).
    pub promise: Option<Bytes>,
    /// That it is in the tree.
    pub proof: Option<InclusionProof>,
    /// What the log took in, byte for byte.
    pub body: Bytes,
}

/// A proof that an entry is in a tree, and the log's signature on that tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// The entry's number in this tree.
    pub log_index: u64,
    /// The tree's root.
    pub root_hash: Bytes,
    /// How many leaves the tree has.
    pub tree_size: u64,
    /// The siblings on the way from the leaf to the root.
    pub hashes: Vec<Bytes>,
    /// The signed checkpoint of the tree.
    pub checkpoint: String,
}

impl LogEntry {
    /// Parses an entry by itself, as Rekor v2 answers with it: a TransparencyLogEntry in protobuf's JSON.
    ///
    /// # Errors
    /// Fails with the first field that is missing, doubled, unknown, out of bounds or of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(BundleError::TooLong(bytes.len()));
        }
        let json = Json::parse(bytes).map_err(BundleError::NotJson)?;
        Ok(Self::read(Message::open(json, String::new())?)?)
    }

    /// Writes it as [`LogEntry::parse`] reads it, in the order of its .proto file.
    pub fn to_json(&self) -> Bytes {
        go_json::to_vec(&EntryJson::from(self)).into()
    }

    pub(super) fn read(mut wire: Message) -> Result<Self, FieldError> {
        let log_index = wire.number("logIndex")?;
        let mut id = wire.needed_message("logId")?;
        let log_id = id.needed_bytes("keyId")?;
        id.finish()?;
        let mut kind = wire.needed_message("kindVersion")?;
        let (kind_name, kind_version) = (kind.text("kind")?, kind.text("version")?);
        kind.finish()?;
        let integrated_time = Some(wire.number("integratedTime")?).filter(|time| *time != 0);
        let promise = match wire.message("inclusionPromise")? {
            None => None,
            Some(mut promise) => {
                let bytes = promise.bytes("signedEntryTimestamp")?;
                promise.finish()?;
                bytes.filter(|bytes| !bytes.is_empty())
            }
        };
        let proof = wire.message("inclusionProof")?.map(InclusionProof::read).transpose()?;
        let body = wire.needed_bytes("canonicalizedBody")?;
        if body.len() > MAX_BODY_BYTES {
            return Err(wire.fault("canonicalizedBody", "is longer than 1 MiB"));
        }
        wire.finish()?;
        let (kind, kind_version) = (kind_name.unwrap_or_default(), kind_version.unwrap_or_default());
        Ok(Self { log_index, log_id, kind, kind_version, integrated_time, promise, proof, body })
    }
}

impl InclusionProof {
    fn read(mut wire: Message) -> Result<Self, FieldError> {
        let log_index = wire.number("logIndex")?;
        let root_hash = wire.bytes("rootHash")?.unwrap_or_default();
        let tree_size = wire.number("treeSize")?;
        let hashes = wire.bytes_list("hashes", MAX_HASHES)?;
        let mut note = wire.needed_message("checkpoint")?;
        let checkpoint = note.text("envelope")?.unwrap_or_default();
        if checkpoint.is_empty() {
            return Err(note.fault("envelope", "is missing"));
        }
        if checkpoint.len() > MAX_CHECKPOINT_BYTES {
            return Err(note.fault("envelope", "is longer than 64 KiB"));
        }
        note.finish()?;
        wire.finish()?;
        Ok(Self { log_index, root_hash, tree_size, hashes, checkpoint })
    }
}

/// An entry in protobuf's JSON: 64-bit numbers are text, and what is empty is left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::signature) struct EntryJson<'a> {
    log_index: String,
    log_id: KeyIdJson,
    kind_version: KindJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    integrated_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inclusion_promise: Option<PromiseJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inclusion_proof: Option<ProofJson<'a>>,
    canonicalized_body: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyIdJson {
    key_id: String,
}

#[derive(Serialize)]
struct KindJson<'a> {
    kind: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PromiseJson {
    signed_entry_timestamp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProofJson<'a> {
    log_index: String,
    root_hash: String,
    tree_size: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<String>,
    checkpoint: CheckpointJson<'a>,
}

#[derive(Serialize)]
struct CheckpointJson<'a> {
    envelope: &'a str,
}

impl<'a> From<&'a LogEntry> for EntryJson<'a> {
    fn from(entry: &'a LogEntry) -> Self {
        let proof = entry.proof.as_ref().map(|proof| ProofJson {
            log_index: proof.log_index.to_string(),
            root_hash: STANDARD.encode(&proof.root_hash),
            tree_size: proof.tree_size.to_string(),
            hashes: proof.hashes.iter().map(|hash| STANDARD.encode(hash)).collect(),
            checkpoint: CheckpointJson { envelope: &proof.checkpoint },
        });
        let promise = entry.promise.as_ref();
        Self {
            log_index: entry.log_index.to_string(),
            log_id: KeyIdJson { key_id: STANDARD.encode(&entry.log_id) },
            kind_version: KindJson { kind: &entry.kind, version: &entry.kind_version },
            integrated_time: entry.integrated_time.map(|time| time.to_string()),
            inclusion_promise: promise.map(|set| PromiseJson { signed_entry_timestamp: STANDARD.encode(set) }),
            inclusion_proof: proof,
            canonicalized_body: STANDARD.encode(&entry.body),
        }
    }
}
