//! The store: blobs, the journal, the facts table, the look-up index (DESIGN section 4).

pub mod disk;
pub mod record;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use larder_core::check::SignedHash;
use larder_core::facts::Facts;
use larder_core::key::AnchorId;
use larder_core::manifest::Manifest;
use larder_core::signature::SignatureId;
use larder_core::{Digest, Repository, Tag};

use crate::clock::Clock;
use record::{Actor, Event, Record};

/// The open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {}

/// Says why a home cannot be opened; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon holds it.
    #[error("{0} is in use by another larderd")]
    Held(String),
    // newer format, not ours, I/O with path …
}

/// Says why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// skeleton
    #[error("skeleton")]
    Skeleton,
    // ReadOnly{why}, Full{..}, Io{what, path, source}, DigestMismatch{expected, actual}, LengthMismatch{..}, NotHeld{digest}, Rebuilding{done,total}, …
}

/// What was found and mended when the store was opened, as lines for people.
pub type _Recovered = Vec<String>;

impl Store {
    /// Opens (or creates) a home. Blocking. Returns also what was mended, as lines for people.
    pub fn open(_home: &Path, _clock: Arc<Clock>) -> Result<(Self, Vec<String>), OpenError> {
        unimplemented!()
    }

    // ---- blobs
    /// Says whether a blob is held (a name under `blobs/`).
    pub fn has(&self, _digest: &Digest) -> bool {
        unimplemented!()
    }
    /// Returns a blob's length.
    pub fn length(&self, _digest: &Digest) -> Option<u64> {
        unimplemented!()
    }
    /// Begins to take in a blob. `expected` (with its length, if known) is verified at commit; without one, commit
    /// tells the sha256 digest.
    pub async fn ingest(&self, _expected: Option<(Digest, Option<u64>)>) -> Result<Ingest, StoreError> {
        unimplemented!()
    }
    /// Takes in a small blob that is in memory; nothing happens where it is held.
    pub async fn put(&self, _bytes: Bytes) -> Result<Digest, StoreError> {
        unimplemented!()
    }
    /// Opens a blob for reading, with its length.
    pub async fn open_blob(&self, _digest: &Digest) -> Result<(tokio::fs::File, u64), StoreError> {
        unimplemented!()
    }
    /// Reads a small blob whole (at most `limit` bytes), its digest verified; a mismatch quarantines it.
    pub async fn read(&self, _digest: &Digest, _limit: u64) -> Result<Bytes, StoreError> {
        unimplemented!()
    }
    /// Reads a manifest that is held.
    pub async fn manifest(&self, _digest: &Digest) -> Result<Manifest, StoreError> {
        unimplemented!()
    }
    /// Returns the bytes of all blobs (kept as a running sum).
    pub fn bytes(&self) -> u64 {
        unimplemented!()
    }

    // ---- the journal
    /// Makes events durable, in one frame, all or nothing, and then visible: facts, index, watchers. Returns their records.
    /// `ManifestsAdded` must name only manifests whose blobs and successors are held or left out (checked).
    pub async fn commit(&self, _actor: Actor, _events: Vec<Event>) -> Result<Vec<Record>, StoreError> {
        unimplemented!()
    }
    /// Watches the last durable and visible seq.
    pub fn head(&self) -> tokio::sync::watch::Receiver<u64> {
        unimplemented!()
    }
    /// Why nothing can be written; empty while all is well. (A watch so that a notice can be sent.)
    pub fn read_only(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        unimplemented!()
    }

    // ---- facts
    /// Reads the facts table. Never hold this across an await.
    pub fn facts(&self) -> std::sync::RwLockReadGuard<'_, Facts> {
        unimplemented!()
    }
    /// Records results of checks (in memory; kept by the next snapshot).
    pub fn record_checks(&self, _results: &[(SignatureId, AnchorId, Option<SignedHash>)]) {
        unimplemented!()
    }

    // ---- look-ups by the index; all may answer StoreError::Rebuilding. Blocking inside is done on the blocking pool.
    /// Returns what a tag names, and the record that moved it there.
    pub async fn tag(&self, _repository: &Repository, _tag: &Tag) -> Result<Option<record::TagRow>, StoreError> {
        unimplemented!()
    }
    /// Lists a repository's tags in lexical order, after `after`, at most `limit`.
    pub async fn tags(&self, _repository: &Repository, _after: Option<&str>, _limit: usize) -> Result<Vec<(Tag, record::TagRow)>, StoreError> {
        unimplemented!()
    }
    /// Lists the tags of a repository that name a digest.
    pub async fn tags_of(&self, _repository: &Repository, _digest: Digest) -> Result<Vec<Tag>, StoreError> {
        unimplemented!()
    }
    /// Returns what is known of a manifest in a repository.
    pub async fn manifest_row(&self, _repository: &Repository, _digest: Digest) -> Result<Option<record::ManifestAdded>, StoreError> {
        unimplemented!()
    }
    /// Pages through all subjects and tags for `ls`, ordered by (repository, tag, digest): entries after `after`, at most `limit`.
    /// Subjects without tag come after the repository's tags; children that came through an index are not listed.
    pub async fn list(&self, _after: Option<&record::ListKey>, _limit: usize) -> Result<Vec<record::ListKey>, StoreError> {
        unimplemented!()
    }
    /// Lists what is attached to a digest, found in any repository.
    pub async fn attached(&self, _subject: Digest) -> Result<Vec<record::ManifestAdded>, StoreError> {
        unimplemented!()
    }
    /// Lists the manifests of a repository that list `digest` (a blob or a manifest) as a successor.
    pub async fn listed_by(&self, _repository: &Repository, _digest: Digest) -> Result<Vec<Digest>, StoreError> {
        unimplemented!()
    }
    /// Reads history: records with seq greater than `after` (oldest first), at most `limit`. For the watch.
    pub async fn history_after(&self, _after: u64, _limit: usize) -> Result<Vec<Record>, StoreError> {
        unimplemented!()
    }
    /// Reads history: records below `before` (newest first), at most `limit`; of everything, of a subject, of a tag, or both.
    pub async fn history_before(&self, _of: record::HistoryOf, _before: u64, _limit: usize) -> Result<Vec<Record>, StoreError> {
        unimplemented!()
    }
    /// How far the rebuilding of the index is (done, total); `None` when it is ready.
    pub fn rebuilding(&self) -> Option<(u64, u64)> {
        unimplemented!()
    }
    /// The time and digest of the trust set last put in force, and its seq.
    pub fn trust_in_force(&self) -> Option<(Digest, Timestamp, u64)> {
        unimplemented!()
    }

    /// Writes a snapshot and closes. Blocking.
    pub fn close(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}

/// A blob being taken in, under `ingest/`; dropped without commit, it is removed.
pub struct Ingest {}

impl Ingest {
    /// Adds bytes; back-pressure is the await. Fails early where more bytes come than were announced.
    pub async fn write(&mut self, _chunk: Bytes) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// How many bytes were taken so far.
    pub fn written(&self) -> u64 {
        unimplemented!()
    }
    /// Verifies digest and length (the given ones, and the ones now named by the caller), makes the blob durable and visible.
    pub async fn commit(self, _expected: Option<Digest>) -> Result<(Digest, u64), StoreError> {
        unimplemented!()
    }
}
