//! The trust folder: read, watched, edited (DESIGN section 6).

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use larder_core::Digest;
use larder_core::policy::{Fault, Reading, TrustFiles, TrustView};

/// What the watcher publishes: under what is judged, and how the folder is.
#[derive(Clone, Debug)]
pub struct Published {
    /// Under what is judged.
    pub view: TrustView,
    /// settled, unsettled, faulty, missing, starting.
    pub condition: Condition,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What is odd and harmless (path, message).
    pub warnings: Vec<(String, String)>,
    /// The set in force and since when.
    pub in_force: Option<(Digest, Timestamp)>,
}

/// How the folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Before the first settled set.
    Starting,
    /// Settled, no fault.
    Settled,
    /// Events came within the last 20 ms.
    Unsettled,
    /// A file cannot be read as what it should be.
    Faulty,
    /// The folder, or a folder in it, is missing or unreadable.
    Missing,
}

/// Tells the watcher's owner that a settled reading differs from the set in force. The owner (ops) makes the trust record
/// durable and then calls back `Folder::put_in_force`, or, where the journal cannot be written, decides by itself.
#[derive(Debug)]
pub struct Settled {
    /// The files.
    pub files: TrustFiles,
    /// Their reading (no faults).
    pub reading: Arc<Reading>,
    /// As in `keys/release.pub removed`.
    pub changes: Vec<String>,
}

/// The watched folder.
#[derive(Clone)]
pub struct Folder {}

impl Folder {
    /// Begins to watch; `last` is the set last in force (from the journal's blob), if any. Settled readings arrive on the receiver,
    /// one at a time; the view is published on `self.published()`.
    pub fn watch(
        _folder: PathBuf,
        _last: Option<(TrustFiles, Digest, Timestamp)>,
        _cancel: tokio_util::sync::CancellationToken,
    ) -> (Self, tokio::sync::mpsc::Receiver<Settled>) {
        unimplemented!()
    }
    /// Under what is judged, and how the folder is.
    pub fn published(&self) -> tokio::sync::watch::Receiver<Published> {
        unimplemented!()
    }
    /// Puts a settled reading in force (the record is durable).
    pub fn put_in_force(&self, _settled: &Settled, _set: Digest, _since: Timestamp) {
        unimplemented!()
    }
}
