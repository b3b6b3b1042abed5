//! States: what still matters of records that are pruned. A file appears whole, or not at all.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use larder_core::Digest;
use larder_core::digest::{Algorithm, Hasher};

use super::frame::{self, FRAME_HEADER, Next, STATE_HEADER, StateStart, Written};
use super::scan::numbered;
use super::{MODE, STATE, file_name};
use crate::store::disk::{self, FaultPoint};

/// Records are gathered into frames of about so many bytes.
const FRAME_BYTES: usize = 1 << 20;

/// A state that is being written, under a temporary name until [`Self::finish`].
#[derive(Debug)]
pub(in crate::store) struct StateWriter {
    folder: PathBuf,
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    hasher: Hasher,
    waiting: Vec<Written>,
    length: usize,
}

impl StateWriter {
    /// Begins a state.
    pub(in crate::store) fn create(folder: &Path, start: StateStart) -> io::Result<Self> {
        let name = file_name(start.until.seq, STATE);
        let temporary = folder.join(format!("{}{name}", disk::TEMPORARY_PREFIX));
        disk::discard(&temporary);
        let file = File::options().write(true).create_new(true).mode(MODE).open(&temporary)?;
        let mut writer = Self {
            folder: folder.to_owned(),
            path: folder.join(name),
            temporary,
            file,
            hasher: Hasher::new(Algorithm::Sha256),
            waiting: Vec::new(),
            length: 0,
        };
        writer.write(&start.to_bytes())?;
        Ok(writer)
    }

    /// Adds a record; seqs ascend.
    pub(in crate::store) fn add(&mut self, record: Written) -> io::Result<()> {
        self.length += record.len();
        self.waiting.push(record);
        if self.length >= FRAME_BYTES { self.flush() } else { Ok(()) }
    }

    /// Makes it durable and gives it its name. Returns where it is, and its SHA-256.
    pub(in crate::store) fn finish(mut self) -> io::Result<(PathBuf, Digest)> {
        self.flush()?;
        self.write(&frame::frame(&[]))?;
        disk::sync_data(&self.file, FaultPoint::StateSync)?;
        disk::rename(&self.temporary, &self.path, FaultPoint::StateRename)?;
        disk::sync_folder(&self.folder, FaultPoint::StateFolderSync)?;
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(Algorithm::Sha256));
        Ok((self.path.clone(), hasher.finish()))
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let frame = frame::frame(&self.waiting);
        self.waiting.clear();
        self.length = 0;
        self.write(&frame)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        disk::append(&mut self.file, bytes, FaultPoint::StateWrite)
    }
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        // Nothing where it was finished.
        disk::discard(&self.temporary);
    }
}

/// Lists the states in order.
pub(super) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    numbered(folder, STATE)
}

/// Reads what a state begins with, and looks that it has an end; `None` where it is not whole.
pub(super) fn open(path: &Path) -> io::Result<Option<StateStart>> {
    let mut file = File::open(path)?;
    let start = StateStart::read(&mut file)?;
    let length = file.metadata()?.len();
    let end = frame::frame(&[]);
    if length < (STATE_HEADER + FRAME_HEADER) as u64 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(length - end.len() as u64))?;
    let mut last = Vec::new();
    file.take(end.len() as u64).read_to_end(&mut last)?;
    Ok(start.filter(|start| {
        last == end && path.file_name().is_some_and(|name| name == file_name(start.until.seq, STATE).as_str())
    }))
}

/// Reads a state through, as `step` lets it: every checksum, every body's hash. Returns its SHA-256, or what is wrong with
/// it.
pub(super) fn verify(path: &Path, mut step: impl FnMut(u64) -> io::Result<()>) -> io::Result<Result<Digest, String>> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut file = File::open(path)?;
    let mut start = vec![0; STATE_HEADER];
    file.read_exact(&mut start)?;
    hasher.update(&start);
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut last, mut ended) = (0, false);
    loop {
        let payload = match frame::next(&mut reader)? {
            Next::Payload(payload) => payload,
            Next::End if ended => return Ok(Ok(hasher.finish())),
            Next::End | Next::Broken => return Ok(Err("it is cut or damaged".into())),
        };
        if ended {
            return Ok(Err("it goes on behind its end".into()));
        }
        ended = payload.is_empty();
        if let Err(error) = frame::verify_state(&payload, &mut last) {
            return Ok(Err(error.to_string()));
        }
        hasher.update(&frame::header_of(&payload));
        hasher.update(&payload);
        step(payload.len() as u64)?;
    }
}

/// Removes what a state stands for.
pub(in crate::store) fn remove(folder: &Path, gone: &[PathBuf]) -> io::Result<u64> {
    let mut bytes = 0_u64;
    for path in gone {
        bytes = bytes.saturating_add(fs::metadata(path).map_or(0, |metadata| metadata.len()));
        disk::remove(path, FaultPoint::JournalPrune)?;
    }
    disk::sync_folder(folder, FaultPoint::JournalPruneSync)?;
    Ok(bytes)
}
