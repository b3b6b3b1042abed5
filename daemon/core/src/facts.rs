//! The table of what is known about subjects and signatures: everything that a verdict needs, in memory.

use jiff::Timestamp;

use crate::check::SignedHash;
use crate::digest::Digest;
use crate::key::AnchorId;
use crate::reference::Repository;
use crate::signature::{Format, SignatureId};
use crate::verdict::State;

/// The most signatures that count for one subject and source repository, beside those valid under a known key.
pub const MAX_SIGNATURES: usize = 1000;

/// A signature's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureRow {
    /// Its id.
    pub id: SignatureId,
    /// Its format.
    pub format: Format,
    /// The digest that it names.
    pub names: Option<Digest>,
    /// When it was first seen here.
    pub first_seen: Timestamp,
    /// The manifest that holds it (a blob) and the layer in it: where its bytes are.
    pub manifest: Digest,
    /// The layer's place in the manifest.
    pub layer: u32,
}

/// The table.
#[derive(Debug, Default)]
pub struct Facts {}

/// What was last told of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The state.
    pub state: State,
    /// The seq of the telling.
    pub seq: u64,
}

impl Facts {
    /// Adds a subject; nothing happens where it is there.
    pub fn add_subject(&mut self, _repository: &Repository, _digest: Digest, _first_seen: Timestamp) {
        unimplemented!()
    }
    /// Notes that an index lists a subject, in one repository.
    pub fn add_parent(&mut self, _repository: &Repository, _child: Digest, _index: Digest) {
        unimplemented!()
    }
    /// Adds a signature that was found at `at` (the digest that it hangs on) in `repository`.
    pub fn add_signature(&mut self, _row: SignatureRow, _repository: &Repository, _at: Digest) {
        unimplemented!()
    }
    /// Notes signatures beyond the limit: recorded and not counted, but the subject is not unsigned.
    pub fn add_uncounted(&mut self, _repository: &Repository, _at: Digest, _count: u32) {
        unimplemented!()
    }
    /// Marks content as corrupt or healed, in every repository.
    pub fn set_corrupt(&mut self, _digest: Digest, _corrupt: bool) {
        unimplemented!()
    }
    /// Records the result of a check.
    pub fn record_check(&mut self, _signature: SignatureId, _anchor: AnchorId, _result: Option<SignedHash>) {
        unimplemented!()
    }
    /// Returns the checks that are missing for these anchors: of every signature, or of those found at or naming `digest`.
    pub fn missing_checks(&self, _anchors: &[AnchorId], _digest: Option<Digest>) -> Vec<(SignatureId, AnchorId)> {
        unimplemented!()
    }
    /// Notes what was told.
    pub fn set_told(&mut self, _repository: &Repository, _digest: Digest, _told: Told) {
        unimplemented!()
    }
    /// Returns what was last told.
    pub fn told(&self, _repository: &Repository, _digest: Digest) -> Option<Told> {
        unimplemented!()
    }
    /// Says whether a subject is held in the repository.
    pub fn contains(&self, _repository: &Repository, _digest: Digest) -> bool {
        unimplemented!()
    }
    /// Returns the repositories that hold a subject of this digest.
    pub fn repositories_of(&self, _digest: Digest) -> Vec<Repository> {
        unimplemented!()
    }
    /// Returns every subject.
    pub fn subjects(&self) -> impl Iterator<Item = (&Repository, Digest)> {
        std::iter::empty()
    }
    /// Returns the number of subjects.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    /// Returns a signature's row.
    pub fn signature(&self, _id: SignatureId) -> Option<&SignatureRow> {
        unimplemented!()
    }
    /// Writes the table for a snapshot; the same table gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// Reads a snapshot's bytes; the caller has verified their checksum, and still nothing here panics.
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self, String> {
        unimplemented!()
    }
}
