//! The journal: what happened and what was told. Together with the blobs it is the only truth.
//!
//! Frames go in, one for a batch of commits, each whole and durable before the next begins; records come out, by seq.
//! A commit never spans two frames, so it is there or it is not. Segments are files named by their first seq. What was
//! pruned is a state, a file that holds what still matters of it (docs/journal.md).

mod frame;
mod read;
mod scan;
pub(super) mod state;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests damage homes as disks and people do")]
mod tests;
pub(super) mod verify;

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use frame::{Chain, JournalId, MAX_PAYLOAD, StateStart, Written, sha256};
pub(super) use read::{Reader, read};
pub(super) use scan::{Damage, Scan, scan};

use self::frame::{SEGMENT_HEADER, SegmentStart};
use self::read::Segment;
use super::disk::{self, FaultPoint, FaultPoints};
use super::error::{is_full, words};

const NAME_DIGITS: usize = 20;
/// What the names of segments end in, whose number is their first seq.
const SEGMENT: &str = ".log";
/// What the names of states end in, whose number is the last seq that they stand for.
const STATE: &str = ".state";
const MODE: u32 = 0o600;

/// The journal's end, to which frames are added. One writer.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    id: JournalId,
    path: PathBuf,
    file: File,
    end: u64,
    chain: Chain,
    /// A new segment begins where the last one has this many bytes.
    segment_bytes: u64,
    reader: Arc<Reader>,
}

/// Says why a frame was not added.
#[derive(Debug)]
pub(super) enum AppendError {
    /// The disk is full; the journal is as it was, and can be tried again.
    Full(PathBuf),
    /// Nothing more may be written.
    Broken(String),
}

/// Creates a journal where there is none: its first segment.
pub(super) fn create(folder: &Path) -> Result<(), super::OpenError> {
    let failed = || super::OpenError::io("create the journal in", folder);
    if !scan::segments(folder).map_err(failed())?.is_empty() {
        return Ok(());
    }
    let mut id = JournalId::default();
    getrandom::fill(&mut id).map_err(|error| failed()(io::Error::other(error.to_string())))?;
    new_segment(folder, SegmentStart { id, first: 1, before: Chain::START.hash }).map_err(failed()).map(|_| ())
}

/// Says whether there is a journal in which something was written.
pub(super) fn has_frames(folder: &Path) -> io::Result<bool> {
    let segments = scan::segments(folder)?;
    Ok(segments.len() > 1
        || segments.iter().any(|path| path.metadata().is_ok_and(|metadata| metadata.len() > SEGMENT_HEADER as u64)))
}

/// Cuts a torn end, which the caller has kept.
pub(super) fn cut(path: &Path, offset: u64) -> io::Result<()> {
    disk::cut(&File::options().write(true).open(path)?, offset, FaultPoint::JournalCut)
}

fn file_name(seq: u64, kind: &str) -> String {
    format!("{seq:0NAME_DIGITS$}{kind}")
}

fn new_segment(folder: &Path, start: SegmentStart) -> io::Result<PathBuf> {
    let path = folder.join(file_name(start.first, SEGMENT));
    disk::write_atomic(&path, &start.to_bytes(), MODE, FaultPoints::SEGMENT)?;
    Ok(path)
}

impl Scan {
    /// Opens what was read for reading, and for writing where it is whole.
    pub(super) fn open(self, folder: &Path, segment_bytes: u64) -> io::Result<(Arc<Reader>, Option<Journal>)> {
        let reader = Arc::new(Reader::new(self.map));
        let (Some(id), Some((path, end)), false) = (self.id, self.last, matches!(self.damage, Damage::Loss(_))) else {
            return Ok((reader, None));
        };
        let mut file = File::options().write(true).open(&path)?;
        file.seek(SeekFrom::Start(end))?;
        let journal = Journal {
            folder: folder.to_owned(),
            id,
            path,
            file,
            end,
            chain: self.chain,
            segment_bytes,
            reader: Arc::clone(&reader),
        };
        Ok((reader, Some(journal)))
    }
}

impl Journal {
    /// Where the chain ends.
    pub(super) fn chain(&self) -> Chain {
        self.chain
    }

    /// Adds a frame and makes it durable. `after` is the chain behind its records.
    pub(super) fn append(&mut self, records: &[Written], after: Chain) -> Result<(), AppendError> {
        if self.end >= self.segment_bytes {
            self.roll().map_err(|error| self.failed("begin a new segment of the journal", &error))?;
        }
        let frame = frame::frame(records);
        if let Err(error) = disk::append(&mut self.file, &frame, FaultPoint::JournalWrite) {
            let taken_back = disk::take_back(&self.file, self.end)
                .and_then(|()| self.file.seek(SeekFrom::Start(self.end)).map(|_| ()));
            if let Err(error) = taken_back {
                return Err(AppendError::Broken(format!(
                    "half a frame is left in {}: {}",
                    self.path.display(),
                    words(&error)
                )));
            }
            return Err(self.failed("write to the journal", &error));
        }
        if let Err(error) = disk::sync_data(&self.file, FaultPoint::JournalSync) {
            // What is on the disk now is unknown, and a second sync would lie. What is told as failed should not
            // come back after a restart, so far as that can be helped.
            let _ = disk::take_back(&self.file, self.end);
            return Err(AppendError::Broken(format!("the journal could not be synced: {}", words(&error))));
        }
        self.reader.mark(self.chain.seq.saturating_add(1), self.end);
        self.end += frame.len() as u64;
        self.chain = after;
        Ok(())
    }

    fn failed(&self, what: &str, error: &io::Error) -> AppendError {
        if is_full(error) {
            AppendError::Full(self.path.clone())
        } else {
            AppendError::Broken(format!("cannot {what}: {}", words(error)))
        }
    }

    fn roll(&mut self) -> io::Result<()> {
        let first = self.chain.seq.saturating_add(1);
        let path = new_segment(&self.folder, SegmentStart { id: self.id, first, before: self.chain.hash })?;
        let mut file = File::options().write(true).open(&path)?;
        self.end = file.seek(SeekFrom::End(0))?;
        self.file = file;
        self.reader.add_segment(Segment::new(path.clone(), first));
        self.path = path;
        Ok(())
    }
}
