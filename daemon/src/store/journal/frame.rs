//! Frames and the chain of headers: what the journal's bytes mean.
//!
//! ```text
//! segment  = "LARDERJ1" id[16] first-seq[8] hash-before[32] crc[4]  frame*
//! frame    = "LJF1" length[4] crc[4] payload[length]
//! payload  = (header-length[4] header body-length[4] body)*
//! state    = "LARDERT1" id[16] until[8] hash-at-until[32] time[8] written[8] crc[4]  frame*  empty-frame
//! ```
//!
//! A state is what still matters of the records up to `until`, which are pruned: the same records with their seqs and times,
//! of which some are left out and some are cut. Its headers are in no chain; a record of the journal has its SHA-256.
//!
//! Numbers are little-endian. The checksum is CRC-32 (IEEE) over length and payload: it tells a write that a crash cut
//! short, which is what it is for. Against edits there are the hashes: each header has the SHA-256 of the header before
//! it and of its own body.

use std::io::{self, Read};

use jiff::Timestamp;
use larder_core::Digest;
use prost::Message as _;

use crate::store::record::{Actor, Event, Record};
use crate::store::wire::{self, Header, Malformed};

/// The longest payload of a frame; a commit that would be longer is refused.
pub(in crate::store) const MAX_PAYLOAD: usize = 32 << 20;
pub(super) const MAGIC: [u8; 4] = *b"LJF1";
pub(super) const FRAME_HEADER: usize = 12;
const SEGMENT_MAGIC: [u8; 8] = *b"LARDERJ1";
pub(super) const SEGMENT_HEADER: usize = 68;
const STATE_MAGIC: [u8; 8] = *b"LARDERT1";
pub(super) const STATE_HEADER: usize = 84;

/// Identifies a journal: views of another one are not believed.
pub(in crate::store) type JournalId = [u8; 16];

/// Hashes with SHA-256.
pub(in crate::store) fn sha256(bytes: &[u8]) -> [u8; 32] {
    match Digest::of(bytes) {
        Digest::Sha256(hash) => hash,
        Digest::Sha512(_) => [0; 32],
    }
}

/// Where the chain of headers ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Chain {
    /// The last seq; 0 before the first record.
    pub(in crate::store) seq: u64,
    /// The hash of the last header.
    pub(in crate::store) hash: [u8; 32],
    /// The last record's time in milliseconds.
    pub(in crate::store) time: i64,
}

impl Chain {
    /// Before the first record.
    pub(in crate::store) const START: Self = Self { seq: 0, hash: [0; 32], time: i64::MIN };

    /// Makes the next record and its written form; the chain goes on from it.
    pub(in crate::store) fn next(
        &mut self,
        now: Timestamp,
        actor: Actor,
        event: Event,
    ) -> Result<(Record, Written), Malformed> {
        // Times never go back, and only what is written is remembered of them.
        let milliseconds = now.as_millisecond().max(self.time);
        let record = Record { seq: self.seq.saturating_add(1), time: wire::time(milliseconds)?, actor, event };
        let body = wire::body(&record.event);
        let header = Header {
            seq: record.seq,
            seqs: record.seqs(),
            time: milliseconds,
            kind: wire::Kind::of(&record.event) as u32,
            uid: record.actor.uid,
            via: record.actor.via.clone(),
            previous: self.hash.to_vec(),
            body: sha256(&body).to_vec(),
        }
        .encode_to_vec();
        *self = Self { seq: record.last_seq(), hash: sha256(&header), time: milliseconds };
        Ok((record, Written { header, body }))
    }

    /// Verifies that a record is the next one.
    fn follow(&mut self, entry: &Entry<'_>) -> Result<(), Malformed> {
        let wrong = |what: &str| Err(Malformed(format!("after seq {}: {what}", self.seq)));
        if entry.header.seq.checked_sub(1) != Some(self.seq) || entry.header.seqs == 0 {
            return wrong("a seq is missing");
        }
        if entry.header.previous != self.hash {
            return wrong("the chain of headers is broken");
        }
        if entry.header.body != sha256(entry.body) {
            return wrong("a body does not have the hash in its header");
        }
        *self = Self { seq: entry.last_seq(), hash: entry.hash, time: self.time.max(entry.header.time) };
        Ok(())
    }
}

/// A record as it is written.
#[derive(Debug)]
pub(in crate::store) struct Written {
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Written {
    /// Writes a record for a state: outside of the chain.
    pub(in crate::store) fn outside(record: &Record) -> Self {
        let body = wire::body(&record.event);
        let header = Header {
            seq: record.seq,
            seqs: record.seqs(),
            time: record.time.as_millisecond(),
            kind: wire::Kind::of(&record.event) as u32,
            uid: record.actor.uid,
            via: record.actor.via.clone(),
            previous: Vec::new(),
            body: sha256(&body).to_vec(),
        };
        Self { header: header.encode_to_vec(), body }
    }

    /// Returns how many bytes of a payload it takes.
    pub(in crate::store) fn len(&self) -> usize {
        8 + self.header.len() + self.body.len()
    }
}

/// Writes a frame.
pub(super) fn frame(records: &[Written]) -> Vec<u8> {
    let length: usize = records.iter().map(Written::len).sum();
    let mut frame = Vec::with_capacity(FRAME_HEADER + length);
    frame.extend_from_slice(&MAGIC);
    // The writer keeps payloads below MAX_PAYLOAD.
    frame.extend_from_slice(&(length as u32).to_le_bytes());
    frame.extend_from_slice(&[0; 4]);
    for part in records.iter().flat_map(|record| [&record.header, &record.body]) {
        frame.extend_from_slice(&(part.len() as u32).to_le_bytes());
        frame.extend_from_slice(part);
    }
    let checksum = checksum(length as u32, &frame[FRAME_HEADER..]);
    frame[8..FRAME_HEADER].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn checksum(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Returns the header of the frame that has this payload.
pub(super) fn header_of(payload: &[u8]) -> [u8; FRAME_HEADER] {
    let mut header = [0; FRAME_HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8..].copy_from_slice(&checksum(payload.len() as u32, payload).to_le_bytes());
    header
}

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Next {
    /// A payload whose checksum holds.
    Payload(Vec<u8>),
    /// The segment ends here.
    End,
    /// No whole frame.
    Broken,
}

/// Reads the next frame.
pub(super) fn next(reader: &mut impl Read) -> io::Result<Next> {
    let mut header = Vec::with_capacity(FRAME_HEADER);
    reader.by_ref().take(FRAME_HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(Next::End);
    }
    let Some((length, expected)) = frame_header(&header) else { return Ok(Next::Broken) };
    let mut payload = Vec::new();
    reader.by_ref().take(u64::from(length)).read_to_end(&mut payload)?;
    let whole = payload.len() as u64 == u64::from(length) && checksum(length, &payload) == expected;
    Ok(if whole { Next::Payload(payload) } else { Next::Broken })
}

/// Reads a frame's header: the payload's length and checksum.
fn frame_header(header: &[u8]) -> Option<(u32, u32)> {
    let rest = header.strip_prefix(&MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (checksum, _) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    (length as usize <= MAX_PAYLOAD).then_some((length, u32::from_le_bytes(*checksum)))
}

/// Says whether a whole frame begins anywhere in `bytes` behind the first one. Gives up, with yes, where many places
/// look like one: what is in doubt is not cut.
pub(super) fn holds_a_frame(bytes: &[u8]) -> bool {
    /// The most bytes that are summed in the search.
    const PATIENCE: u64 = 1 << 30;
    let mut summed = 0_u64;
    for at in 1..bytes.len() {
        let candidate = &bytes[at..];
        let Some((length, expected)) = frame_header(candidate) else { continue };
        let Some(payload) = candidate[FRAME_HEADER..].get(..length as usize) else { continue };
        summed = summed.saturating_add(u64::from(length));
        if summed > PATIENCE || checksum(length, payload) == expected {
            return true;
        }
    }
    false
}

/// A record of a payload, its body not read yet.
#[derive(Debug)]
pub(in crate::store) struct Entry<'a> {
    pub(in crate::store) header: Header,
    pub(in crate::store) hash: [u8; 32],
    body: &'a [u8],
}

impl Entry<'_> {
    /// Says what kind of event it is, without reading it.
    pub(in crate::store) fn is(&self, kind: wire::Kind) -> bool {
        self.header.kind == kind as u32
    }

    pub(in crate::store) fn last_seq(&self) -> u64 {
        self.header.seq.saturating_add(self.header.seqs.saturating_sub(1))
    }

    /// Reads the whole record.
    pub(in crate::store) fn record(self) -> Result<Record, Malformed> {
        wire::read_record(self.header, self.body)
    }
}

/// Takes a payload apart.
pub(super) fn entries(mut payload: &[u8]) -> Result<Vec<Entry<'_>>, Malformed> {
    fn part<'a>(payload: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = payload.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *payload = rest;
        Some(part)
    }
    let mut entries = Vec::new();
    while !payload.is_empty() {
        let (Some(header), Some(body)) = (part(&mut payload), part(&mut payload)) else {
            return Err(Malformed("a frame's records do not fill it".into()));
        };
        entries.push(Entry { header: Header::decode(header)?, hash: sha256(header), body });
    }
    Ok(entries)
}

/// Reads the first seq of a payload.
pub(super) fn first_seq(payload: &[u8]) -> Option<u64> {
    let (length, rest) = payload.split_first_chunk::<4>()?;
    let header = rest.get(..u32::from_le_bytes(*length) as usize)?;
    Header::decode(header).ok().map(|header| header.seq)
}

/// Verifies a payload of a state: seqs ascend and bodies are what their headers say.
pub(super) fn verify_state(payload: &[u8], last: &mut u64) -> Result<(), Malformed> {
    for entry in entries(payload)? {
        if entry.header.seq <= *last || entry.header.body != sha256(entry.body) {
            return Err(Malformed(format!("after seq {last}: a record is not as it was written")));
        }
        *last = entry.last_seq();
    }
    Ok(())
}

/// Verifies a payload against the chain, which goes on from it. Returns the first seq.
pub(super) fn verify(payload: &[u8], chain: &mut Chain, mut passed: impl FnMut(&Chain)) -> Result<u64, Malformed> {
    let first = chain.seq.saturating_add(1);
    for entry in entries(payload)? {
        chain.follow(&entry)?;
        passed(chain);
    }
    Ok(first)
}

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentStart {
    pub(super) id: JournalId,
    pub(super) first: u64,
    pub(super) before: [u8; 32],
}

impl SegmentStart {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.before);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn read(reader: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER);
        reader.by_ref().take(SEGMENT_HEADER as u64).read_to_end(&mut bytes)?;
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (summed, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(summed) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (id, rest) = summed.strip_prefix(&SEGMENT_MAGIC)?.split_first_chunk()?;
        let (first, rest) = rest.split_first_chunk()?;
        Some(Self { id: *id, first: u64::from_le_bytes(*first), before: rest.try_into().ok()? })
    }
}

/// What a state begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct StateStart {
    pub(in crate::store) id: JournalId,
    /// Where the chain was behind the last record that it stands for.
    pub(in crate::store) until: Chain,
    /// When it was written, in milliseconds.
    pub(in crate::store) written: i64,
}

impl StateStart {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(STATE_HEADER);
        bytes.extend_from_slice(&STATE_MAGIC);
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.until.seq.to_le_bytes());
        bytes.extend_from_slice(&self.until.hash);
        bytes.extend_from_slice(&self.until.time.to_le_bytes());
        bytes.extend_from_slice(&self.written.to_le_bytes());
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn read(reader: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = Vec::with_capacity(STATE_HEADER);
        reader.by_ref().take(STATE_HEADER as u64).read_to_end(&mut bytes)?;
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (summed, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(summed) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (id, rest) = summed.strip_prefix(&STATE_MAGIC)?.split_first_chunk()?;
        let (seq, rest) = rest.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let (time, written) = rest.split_first_chunk()?;
        let until = Chain { seq: u64::from_le_bytes(*seq), hash: *hash, time: i64::from_le_bytes(*time) };
        Some(Self { id: *id, until, written: i64::from_le_bytes(written.try_into().ok()?) })
    }
}
