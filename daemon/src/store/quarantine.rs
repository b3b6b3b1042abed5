//! `quarantine/`: bytes that failed their digest, and torn ends of the journal, kept for inspection.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use larder_core::Digest;

use super::disk::{self, FaultPoint};

/// The most blobs that are kept; a registry that sends rubbish must not fill the disk with it.
const MAX_BLOBS: usize = 16;
/// The most bytes that the kept blobs may have together; the newest is kept whatever its size.
const MAX_BYTES: u64 = 64 << 20;
/// The longest unfinished download worth keeping.
const MAX_INGEST_BYTES: u64 = 16 << 20;
const BLOB_PREFIX: &str = "blob-";
const MODE: u32 = 0o600;

#[derive(Debug)]
pub(super) struct Quarantine {
    folder: PathBuf,
    /// One at a time, so that names do not collide and pruning counts right. Held for a rename, never across an await.
    turn: Mutex<()>,
}

impl Quarantine {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, turn: Mutex::new(()) }
    }

    /// Moves a blob's file here. What cannot be moved is removed: wrong bytes must not keep a right name.
    pub(super) fn take_blob(&self, file: &Path, expected: &Digest) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{BLOB_PREFIX}{}-{}", expected.algorithm().name(), expected.hex());
        let moved = self.prune().and_then(|()| disk::rename(file, &self.free(&name), FaultPoint::QuarantineMove));
        if let Err(error) = moved {
            tracing::warn!(%expected, %error, "wrong bytes could not be kept in quarantine");
            disk::discard(file);
        }
    }

    /// Moves a finished download here that has not the digest it should have; a long one is removed.
    pub(super) fn take_ingested(&self, file: &Path, length: u64, expected: &Digest) {
        if length <= MAX_INGEST_BYTES {
            self.take_blob(file, expected);
        } else {
            disk::discard(file);
        }
    }

    /// Copies the end of a journal's segment here, durably. Returns where it is.
    pub(super) fn keep_tail(&self, segment: &Path, offset: u64) -> io::Result<PathBuf> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let stem = segment.file_stem().unwrap_or_default().to_string_lossy();
        let path = self.free(&format!("journal-{stem}-{offset}.tail"));
        let mut from = File::open(segment)?;
        from.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        disk::write_new(&path, &bytes, MODE, FaultPoint::QuarantineWrite)?;
        disk::sync_data(&File::open(&path)?, FaultPoint::QuarantineWrite)?;
        disk::sync_folder(&self.folder, FaultPoint::QuarantineWrite)?;
        Ok(path)
    }

    /// Finds a name that is free.
    fn free(&self, name: &str) -> PathBuf {
        let numbered = (1..).map(|number| self.folder.join(format!("{name}.{number}")));
        std::iter::once(self.folder.join(name))
            .chain(numbered)
            .find(|path| fs::symlink_metadata(path).is_err())
            .unwrap_or_else(|| self.folder.join(name))
    }

    /// Makes room for one more blob.
    fn prune(&self) -> io::Result<()> {
        let mut blobs: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(BLOB_PREFIX) {
                let metadata = entry.metadata()?;
                blobs.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), entry.path()));
            }
        }
        blobs.sort();
        let (mut bytes, mut kept) = (0_u64, 0_usize);
        let stays = |(_, length, _): &&(SystemTime, u64, PathBuf)| {
            bytes = bytes.saturating_add(*length);
            kept += 1;
            kept < MAX_BLOBS && bytes <= MAX_BYTES
        };
        let count = blobs.iter().rev().take_while(stays).count();
        let doomed = blobs.len() - count;
        disk::clear(blobs.iter().take(doomed).map(|(_, _, path)| path.as_path()), FaultPoint::QuarantinePrune)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_blobs_stay_and_tails_always() {
        let folder = tempfile::tempdir().expect("a folder");
        let quarantine = Quarantine::new(folder.path().join("quarantine"));
        fs::create_dir(folder.path().join("quarantine")).expect("quarantine");
        let segment = folder.path().join("00000000000000000001.log");
        fs::write(&segment, b"whole torn").expect("a segment");
        let tail = quarantine.keep_tail(&segment, 6).expect("a tail");
        assert_eq!(fs::read(&tail).expect("the tail"), b"torn");
        assert_ne!(quarantine.keep_tail(&segment, 6).expect("a tail"), tail, "nothing is overwritten");
        for number in 0..3 * MAX_BLOBS {
            let file = folder.path().join("rubbish");
            fs::write(&file, number.to_string()).expect("rubbish");
            quarantine.take_blob(&file, &Digest::of(number.to_string().as_bytes()));
            assert!(!file.exists());
        }
        let names: Vec<_> = fs::read_dir(folder.path().join("quarantine"))
            .expect("quarantine")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        assert_eq!(names.iter().filter(|name| name.starts_with(BLOB_PREFIX)).count(), MAX_BLOBS);
        assert!(tail.exists());
    }
}
