//! Snapshots: the facts table at one seq, checksummed. A view: without one the journal is read from its beginning.
//!
//! `"LARDERS1" meta-length[4] meta facts-length[8] facts SHA-256[32]`, the hash over all before it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use larder_core::Digest;
use larder_core::facts::Facts;
use prost::Message;

use super::disk::{self, FaultPoint, FaultPoints};
use super::journal::{Chain, JournalId, sha256};
use super::wire::{self, Malformed};

const MAGIC: &[u8; 8] = b"LARDERS1";
const NAME_DIGITS: usize = 20;
const MODE: u32 = 0o600;

/// The trust set in force: its blob, when it was recorded, by which seq.
pub(super) type TrustInForce = (Digest, Timestamp, u64);

/// What is known at one seq.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) id: JournalId,
    pub(super) chain: Chain,
    pub(super) trust: Option<TrustInForce>,
    /// The bytes of all blobs then: a first guess for the next start.
    pub(super) blob_bytes: u64,
    pub(super) facts: Facts,
}

#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(bytes = "vec", tag = "3")]
    hash: Vec<u8>,
    #[prost(int64, tag = "4")]
    time: i64,
    #[prost(bytes = "vec", tag = "5")]
    trust: Vec<u8>,
    #[prost(int64, tag = "6")]
    trust_time: i64,
    #[prost(uint64, tag = "7")]
    trust_seq: u64,
    #[prost(uint64, tag = "8")]
    blob_bytes: u64,
}

/// Writes a snapshot's bytes.
pub(super) fn to_bytes(
    id: JournalId,
    chain: Chain,
    trust: Option<TrustInForce>,
    blob_bytes: u64,
    facts: &[u8],
) -> Vec<u8> {
    let meta = Meta {
        id: id.to_vec(),
        seq: chain.seq,
        hash: chain.hash.to_vec(),
        time: chain.time,
        trust: trust.map(|(set, ..)| wire::digest_bytes(&set)).unwrap_or_default(),
        trust_time: trust.map_or(0, |(_, time, _)| time.as_millisecond()),
        trust_seq: trust.map_or(0, |(.., seq)| seq),
        blob_bytes,
    }
    .encode_to_vec();
    let mut bytes = Vec::with_capacity(MAGIC.len() + 12 + meta.len() + facts.len() + 32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&meta);
    bytes.extend_from_slice(&(facts.len() as u64).to_le_bytes());
    bytes.extend_from_slice(facts);
    let hash = sha256(&bytes);
    bytes.extend_from_slice(&hash);
    bytes
}

fn from_bytes(bytes: &[u8]) -> Result<Snapshot, Malformed> {
    let wrong = |what: &str| Malformed(what.to_owned());
    let (summed, hash) = bytes.split_last_chunk::<32>().ok_or_else(|| wrong("it is too short"))?;
    if sha256(summed) != *hash {
        return Err(wrong("its checksum is wrong"));
    }
    let parts = || -> Option<(&[u8], &[u8])> {
        let (length, rest) = summed.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
        let (meta, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (length, facts) = rest.split_first_chunk::<8>()?;
        (u64::from_le_bytes(*length) == facts.len() as u64).then_some((meta, facts))
    };
    let (meta, facts) = parts().ok_or_else(|| wrong("it is not a snapshot of this version"))?;
    let meta = Meta::decode(meta)?;
    let trust = if meta.trust.is_empty() {
        None
    } else {
        Some((wire::digest(&meta.trust)?, wire::time(meta.trust_time)?, meta.trust_seq))
    };
    let hash = |bytes: Vec<u8>| bytes.try_into().map_err(|_| wrong("it does not say of which journal it is"));
    let id = meta.id.try_into().map_err(|_| wrong("it does not say of which journal it is"))?;
    let chain = Chain { seq: meta.seq, hash: hash(meta.hash)?, time: meta.time };
    let facts = Facts::from_bytes(facts).map_err(|error| Malformed(error.to_string()))?;
    Ok(Snapshot { id, chain, trust, blob_bytes: meta.blob_bytes, facts })
}

fn name(seq: u64) -> String {
    format!("{seq:0NAME_DIGITS$}")
}

/// Lists the snapshots, the newest first.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_snapshot = name
            .to_str()
            .is_some_and(|name| name.len() == NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_digit()));
        if is_snapshot {
            paths.push(entry.path());
        }
    }
    paths.sort();
    paths.reverse();
    Ok(paths)
}

/// Reads the newest valid snapshot. Others are ignored, with a line for each.
pub(super) fn load(folder: &Path, mended: &mut Vec<String>) -> io::Result<Option<Snapshot>> {
    for path in list(folder)? {
        let read = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => Err(Malformed(error.to_string())),
            Ok(bytes) => from_bytes(&bytes),
        };
        match read {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error) => mended.push(format!("{} is ignored: {error}", path.display())),
        }
    }
    Ok(None)
}

/// So many snapshots are kept: one that a disk has damaged is no reason to read the whole journal.
const KEPT: usize = 2;

/// Writes a snapshot durably and removes the oldest ones.
pub(super) fn write(folder: &Path, seq: u64, bytes: &[u8]) -> io::Result<()> {
    let path = folder.join(name(seq));
    disk::write_atomic(&path, bytes, MODE, FaultPoints::SNAPSHOT)?;
    // One of a later seq is not believed: it would be here already. Newest first, so that what is skipped stays.
    let mut others: Vec<_> = list(folder)?.into_iter().filter(|other| *other != path).collect();
    others.sort_by(|a, b| b.cmp(a));
    let (later, earlier): (Vec<_>, Vec<_>) = others.into_iter().partition(|other| *other > path);
    let doomed = later.iter().chain(earlier.iter().skip(KEPT - 1));
    disk::clear(doomed.map(PathBuf::as_path), FaultPoint::SnapshotPrune)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_byte_is_seen_and_the_older_snapshot_serves() {
        let folder = tempfile::tempdir().expect("a folder");
        let trust = Some((Digest::of(b"set"), Timestamp::from_second(7).expect("time"), 4));
        let chain = |seq| Chain { seq, hash: [3; 32], time: 9 };
        let facts = Facts::default().to_bytes();
        let bytes = to_bytes([1; 16], chain(5), trust, 77, &facts);
        let snapshot = from_bytes(&bytes).expect("a snapshot");
        assert_eq!((snapshot.chain, snapshot.trust, snapshot.blob_bytes), (chain(5), trust, 77));
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert!(from_bytes(&damaged).is_err(), "byte {place}");
            assert!(from_bytes(&bytes[..place]).is_err(), "cut at {place}");
        }
        write(folder.path(), 5, &bytes).expect("written");
        fs::write(folder.path().join(name(6)), b"garbage").expect("garbage");
        let mut mended = Vec::new();
        let loaded = load(folder.path(), &mut mended).expect("readable").expect("a snapshot");
        assert_eq!((loaded.chain.seq, mended.len()), (5, 1));
        for seq in [7, 8, 9] {
            write(folder.path(), seq, &to_bytes([1; 16], chain(seq), None, 0, &facts)).expect("written");
        }
        let mut kept = list(folder.path()).expect("a list");
        kept.sort();
        assert_eq!(kept, [8, 9].map(|seq| folder.path().join(name(seq))));
    }
}
