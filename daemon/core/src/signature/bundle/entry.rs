//! Entries of transparency logs, as bundles bring them (sigstore_rekor.proto).

use bytes::Bytes;

use crate::protojson::{FieldError, Message};

/// The most hashes of an inclusion proof: a tree of 2^63 leaves has that many levels.
const MAX_HASHES: usize = 64;
/// The most bytes that a checkpoint may have; one with twenty witnesses has 2 KiB.
const MAX_CHECKPOINT_BYTES: usize = 64 << 10;
/// The most bytes that an entry's body may have: it holds hashes, a signature and a certificate.
const MAX_BODY_BYTES: usize = 1 << 20;

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
