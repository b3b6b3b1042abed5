//! A blob being taken in: hashed and counted while the bytes pass, invisible until it is committed.
//!
//! Bytes go through a short queue to a writing side on the blocking pool, and from there, for long blobs, through
//! another short queue to a hashing side: what is slower sets the pace, and memory stays bounded. Write-back starts
//! early, so that the sync at the end finds little to do.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use larder_core::Digest;
use larder_core::digest::{Algorithm, Hasher};
use rustix::fs::{Advice, fadvise};
use tokio::sync::mpsc;
use tokio::task;

use super::blobs::{Unfinished, finish};
use super::disk::{self, FaultPoint};
use super::error::StoreError;
use super::shared::Shared;

/// How many chunks wait between two sides.
const QUEUE: usize = 8;
/// Longer chunks are cut, so that a queue's length bounds its bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Write-back starts after so many bytes.
const WRITE_BACK: u64 = 8 << 20;
/// Blobs announced as shorter are hashed by the writing side.
const OWN_HASHER: u64 = 1 << 20;
/// What is left of a disk by whatever is taken in: one part of so many, at most so many bytes. A body that never ends
/// must not take the room that the journal, and everybody else, needs.
const RESERVE_PART: u64 = 32;
const RESERVE_BYTES: u64 = 1 << 30;

/// A blob being taken in, under `ingest/`; dropped without commit, it is removed.
#[derive(Debug)]
pub struct Ingest {
    shared: Arc<Shared>,
    expected: Option<Digest>,
    length: Option<u64>,
    written: u64,
    chunks: Option<mpsc::Sender<Bytes>>,
    side: Option<task::JoinHandle<Result<Taken, StoreError>>>,
}

/// All bytes of a blob, written and hashed.
#[derive(Debug)]
struct Taken {
    unfinished: Unfinished,
    file: File,
    digest: Digest,
    length: u64,
}

impl Ingest {
    pub(super) fn begin(shared: Arc<Shared>, expected: Option<Digest>, length: Option<u64>) -> Self {
        Self::start(shared, expected, length, None)
    }

    /// Goes on behind the first `from` bytes of what an earlier download left.
    pub(super) fn resume(shared: Arc<Shared>, digest: Digest, length: u64, from: u64) -> Self {
        Self::start(shared, Some(digest), Some(length), Some((digest, from)))
    }

    fn start(shared: Arc<Shared>, expected: Option<Digest>, length: Option<u64>, part: Option<(Digest, u64)>) -> Self {
        let (chunks, receiver) = mpsc::channel(QUEUE);
        let algorithm = expected.map_or(Algorithm::Sha256, |digest| digest.algorithm());
        let apart = length.is_none_or(|length| length >= OWN_HASHER);
        let on = Arc::clone(&shared);
        let hashing = move || Hashing::start(algorithm, apart);
        let announced = length.unwrap_or_default();
        let side = task::spawn_blocking(move || take(&on, receiver, hashing, announced, part));
        let written = part.map_or(0, |(_, from)| from);
        Self { shared, expected, length, written, chunks: Some(chunks), side: Some(side) }
    }

    /// Adds bytes; back-pressure is the await. Fails early where more bytes come than were announced.
    ///
    /// # Errors
    /// Fails where the bytes are too many or cannot be written; the ingest is of no use then.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<(), StoreError> {
        self.written = self.written.saturating_add(chunk.len() as u64);
        if let Some(expected) = self.length.filter(|&length| self.written > length) {
            self.chunks = None;
            return Err(StoreError::LengthMismatch { digest: self.expected, expected, actual: self.written });
        }
        while !chunk.is_empty() {
            let part = chunk.split_to(chunk.len().min(CHUNK_BYTES));
            let Some(chunks) = &self.chunks else { return Err(StoreError::Stopping) };
            if chunks.send(part).await.is_err() {
                self.chunks = None;
                return Err(self.side().await.err().unwrap_or(StoreError::Stopping));
            }
        }
        Ok(())
    }

    /// Returns how many bytes were taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Verifies digest and length (the given ones, and the ones now named by the caller), makes the blob durable and
    /// visible. Bytes that fail are kept in quarantine where they are few.
    ///
    /// # Errors
    /// Fails where bytes are missing, have another digest, or cannot be made durable; nothing is visible then.
    pub async fn commit(mut self, expected: Option<Digest>) -> Result<(Digest, u64), StoreError> {
        // The end of the queue is the end of the blob.
        self.chunks = None;
        let taken = self.side().await?;
        let (shared, wanted, length) = (Arc::clone(&self.shared), self.expected, self.length);
        let published = task::spawn_blocking(move || publish(&shared, taken, [wanted, expected], length));
        published.await.map_err(|_| StoreError::Stopping)?
    }

    async fn side(&mut self) -> Result<Taken, StoreError> {
        match self.side.take() {
            Some(side) => side.await.map_err(|_| StoreError::Stopping)?,
            None => Err(StoreError::Stopping),
        }
    }
}

/// The writing side.
fn take(
    shared: &Shared,
    mut chunks: mpsc::Receiver<Bytes>,
    hashing: impl FnOnce() -> Hashing,
    announced: u64,
    part: Option<(Digest, u64)>,
) -> Result<Taken, StoreError> {
    let (mut unfinished, mut file) = match part {
        Some((digest, from)) => shared.blobs.part(&digest, from)?,
        None => shared.blobs.unfinished()?,
    };
    check_room(unfinished.path(), announced)?;
    let mut hashing = hashing();
    let mut length = hash_begun(&mut file, unfinished.path(), &mut hashing)?;
    let mut started = length;
    while let Some(chunk) = chunks.blocking_recv() {
        if let Err(error) = disk::append(&mut file, &chunk, FaultPoint::BlobWrite) {
            // What a full disk cannot take must not keep it full.
            unfinished.give_up();
            return Err(StoreError::io("write", unfinished.path())(error));
        }
        length += chunk.len() as u64;
        hashing.update(chunk);
        if length - started >= WRITE_BACK {
            // On Linux this starts writing dirty pages back and waits for none. It is advice: errors say nothing.
            let _ = fadvise(&file, started, NonZeroU64::new(length - started), Advice::DontNeed);
            started = length;
            check_room(unfinished.path(), 0)?;
        }
    }
    Ok(Taken { digest: hashing.finish(), unfinished, file, length })
}

/// Hashes what is in the file already, and leaves it at its end. Returns how many bytes that were.
fn hash_begun(file: &mut File, path: &std::path::Path, hashing: &mut Hashing) -> Result<u64, StoreError> {
    let begun = file.metadata().map_err(StoreError::io("read", path))?.len();
    let mut read = 0;
    while read < begun {
        let mut buffer = vec![0; CHUNK_BYTES];
        match file.read(&mut buffer).map_err(StoreError::io("read", path))? {
            0 => break,
            length => buffer.truncate(length),
        }
        read += buffer.len() as u64;
        hashing.update(buffer.into());
    }
    Ok(read)
}

/// Refuses what would take the last room of the disk, before the disk does.
fn check_room(path: &std::path::Path, wanted: u64) -> Result<(), StoreError> {
    let full = |_| StoreError::Full { what: "take more into", path: path.to_owned() };
    has_room(path, wanted).map_err(full)
}

/// Says whether the disk has room for so many bytes of blobs; if not, how many are free.
pub(super) fn has_room(path: &std::path::Path, wanted: u64) -> Result<(), u64> {
    // A disk that does not say how much it has refuses by itself.
    let Ok(disk) = rustix::fs::statvfs(path) else { return Ok(()) };
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let (free, reserve) = (bytes(disk.f_bavail), (bytes(disk.f_blocks) / RESERVE_PART).min(RESERVE_BYTES));
    if free < wanted.saturating_add(reserve) { Err(free.saturating_sub(reserve)) } else { Ok(()) }
}

/// Verifies what was taken and gives it its name.
fn publish(
    shared: &Shared,
    taken: Taken,
    expected: [Option<Digest>; 2],
    announced: Option<u64>,
) -> Result<(Digest, u64), StoreError> {
    let Taken { mut unfinished, file, mut digest, length } = taken;
    if let Some(expected) = announced.filter(|&announced| announced != length) {
        return Err(StoreError::LengthMismatch { digest: Some(digest), expected, actual: length });
    }
    for expected in expected.into_iter().flatten() {
        // The caller may have learned only at the end by which algorithm the blob goes.
        let actual = if expected.algorithm() == digest.algorithm() {
            digest
        } else {
            hash_file(unfinished.path(), expected.algorithm())?
        };
        if actual != expected {
            unfinished.give_up();
            shared.blobs.quarantine.take_ingested(unfinished.path(), length, &expected);
            return Err(StoreError::DigestMismatch { expected, actual });
        }
        digest = expected;
    }
    if !shared.blobs.has(&digest) {
        finish(&file, unfinished.path())?;
        shared.blobs.publish(vec![(unfinished, digest, length)])?;
    }
    Ok((digest, length))
}

fn hash_file(path: &std::path::Path, algorithm: Algorithm) -> Result<Digest, StoreError> {
    let mut file = File::open(path).map_err(StoreError::io("read", path))?;
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer).map_err(StoreError::io("read", path))? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// Hashes here, or on a thread of its own.
enum Hashing {
    Here(Hasher),
    There(SyncSender<Bytes>, JoinHandle<Digest>),
}

impl Hashing {
    fn start(algorithm: Algorithm, apart: bool) -> Self {
        let hasher = Hasher::new(algorithm);
        if !apart {
            return Self::Here(hasher);
        }
        let (sender, receiver) = sync_channel::<Bytes>(QUEUE);
        let mut there = hasher.clone();
        let thread = thread::Builder::new().name("hash".into()).spawn(move || {
            for chunk in receiver {
                there.update(&chunk);
            }
            there.finish()
        });
        // Without a thread it takes longer, no more.
        thread.map_or(Self::Here(hasher), |thread| Self::There(sender, thread))
    }

    fn update(&mut self, chunk: Bytes) {
        match self {
            Self::Here(hasher) => hasher.update(&chunk),
            // The thread takes all there is; were it gone, the digest would be a wrong one, and be refused.
            Self::There(sender, _) => drop(sender.send(chunk)),
        }
    }

    fn finish(self) -> Digest {
        match self {
            Self::Here(hasher) => hasher.finish(),
            Self::There(sender, thread) => {
                drop(sender);
                thread.join().unwrap_or(Digest::Sha256([0; 32]))
            }
        }
    }
}
