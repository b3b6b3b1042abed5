//! Blobs: files under `blobs/`, written once, that hash to their name.
//!
//! A name under `blobs/` is "held", nothing else is: not a size, not a file under `ingest/`. Bytes are durable before
//! they get their name, and the name is durable before anybody is told that the blob is held.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use larder_core::Digest;
use larder_core::digest::{Algorithm, Hasher};
use rustix::fs::OFlags;
use tokio::sync::mpsc;

use super::disk::{self, FaultPoint};
use super::error::StoreError;
use super::quarantine::Quarantine;

/// Blobs are read by everybody who may enter the home, and written by nobody again.
const BLOB_MODE: u32 = 0o444;
const INGEST_MODE: u32 = 0o600;
const READ_BYTES: usize = 256 << 10;
/// The most files that one taking in of small blobs holds open.
const MAX_OPEN: usize = 128;
/// How the beginning of a download ends its name, which is the blob's digest.
const PART: &str = ".part";
/// Shorter beginnings are not worth a request of their own.
const WORTH_KEEPING: u64 = 1 << 20;
/// How many beginnings are kept, the youngest.
const MAX_PARTS: usize = 64;
/// For how long nothing may come for a download that is under way; twice what a registry may keep silent.
const IN_USE: Duration = Duration::from_secs(2 * 3600);
/// How long a beginning is kept.
const PART_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug)]
pub(super) struct Blobs {
    folder: PathBuf,
    ingest: PathBuf,
    pub(super) quarantine: Quarantine,
    /// Blobs that have a name which is not durable yet. Held for an instant.
    unsynced: Mutex<HashSet<Digest>>,
    /// The syncs of the folders in which blobs get their names, by algorithm.
    names: HashMap<Algorithm, Names>,
    /// Numbers the files under `ingest/`.
    next: AtomicU64,
    bytes: Mutex<Bytecount>,
    /// What failed its digest: told without waiting, and rare, for each blob leaves `blobs/` with it.
    corrupt: mpsc::UnboundedSender<Digest>,
    found: Mutex<Option<mpsc::UnboundedReceiver<Digest>>>,
}

/// The bytes of all blobs: counted once after a start, in the background, and kept from then on.
#[derive(Debug, Default)]
struct Bytecount {
    sum: u64,
    /// How much of the sum is a first guess.
    assumed: u64,
    /// While they are being counted: what was added meanwhile, which the counting must not count again.
    added: Option<HashSet<Digest>>,
}

impl Blobs {
    /// Opens the folders of a home; removes what an earlier daemon did not finish, but for downloads that can go on.
    pub(super) fn open(home: &Path) -> Result<Self, super::OpenError> {
        let (folder, ingest) = (home.join("blobs"), home.join("ingest"));
        clear_unfinished(&ingest).map_err(super::OpenError::io("open", &ingest))?;
        for algorithm in Algorithm::ALL {
            // A crash may have come between a rename and the folder's sync.
            let folder = folder.join(algorithm.name());
            disk::sync_folder(&folder, FaultPoint::BlobFolderSync).map_err(super::OpenError::io("open", &folder))?;
        }
        let (corrupt, found) = mpsc::unbounded_channel();
        Ok(Self {
            folder,
            corrupt,
            found: Mutex::new(Some(found)),
            ingest,
            quarantine: Quarantine::new(home.join("quarantine")),
            unsynced: Mutex::default(),
            names: Algorithm::ALL.map(|algorithm| (algorithm, Names::default())).into(),
            next: AtomicU64::new(0),
            bytes: Mutex::new(Bytecount { added: Some(HashSet::new()), ..Bytecount::default() }),
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.algorithm().name()).join(digest.hex())
    }

    fn unsynced(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> MutexGuard<'_, Bytecount> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.length(digest).is_some()
    }

    pub(super) fn length(&self, digest: &Digest) -> Option<u64> {
        if self.unsynced().contains(digest) {
            return None;
        }
        fs::metadata(self.path(digest)).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    pub(super) fn open_file(&self, digest: &Digest) -> Result<(File, u64), StoreError> {
        let path = self.path(digest);
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => StoreError::NotHeld { digest: *digest },
            _ => StoreError::io("open", &path)(error),
        };
        if self.unsynced().contains(digest) {
            return Err(StoreError::NotHeld { digest: *digest });
        }
        let file = File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok((file, length))
    }

    /// Reads a blob whole and verifies it. Bytes that fail leave `blobs/` at once.
    pub(super) fn read(&self, digest: &Digest, limit: u64) -> Result<Bytes, StoreError> {
        let (file, length) = self.open_file(digest)?;
        if length > limit {
            return Err(StoreError::TooLong { digest: *digest, length, limit });
        }
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(StoreError::io("read", &self.path(digest)))?;
        let actual = Digest::with(digest.algorithm(), &bytes);
        if actual == *digest {
            return Ok(bytes.into());
        }
        self.put_aside(digest, length);
        Err(StoreError::DigestMismatch { expected: *digest, actual })
    }

    /// Reads a blob through without keeping it, and verifies it.
    pub(super) fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        let (mut file, length) = self.open_file(digest)?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer).map_err(StoreError::io("read", &self.path(digest)))? {
                0 => break,
                read => hasher.update(buffer.get(..read).unwrap_or_default()),
            }
        }
        let actual = hasher.finish();
        if actual == *digest {
            return Ok(());
        }
        self.put_aside(digest, length);
        Err(StoreError::DigestMismatch { expected: *digest, actual })
    }

    /// Takes the receiver of what failed its digest; once.
    pub(super) fn corrupt(&self) -> Option<mpsc::UnboundedReceiver<Digest>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_aside(&self, digest: &Digest, length: u64) {
        self.quarantine.take_blob(&self.path(digest), digest);
        // Nobody follows in tests of other things.
        let _ = self.corrupt.send(*digest);
        let mut count = self.count();
        count.sum = count.sum.saturating_sub(length);
    }

    /// Returns how many bytes of a blob an earlier download left; they are nothing but a beginning, and hashed again.
    pub(super) fn begun(&self, digest: &Digest, length: u64) -> u64 {
        match fs::symlink_metadata(self.part_path(digest)) {
            Ok(metadata) if metadata.is_file() && metadata.len() <= length => metadata.len(),
            _ => 0,
        }
    }

    /// Opens what an earlier download left, or begins anew where that is nothing. One download of a blob runs at a time.
    pub(super) fn part(&self, digest: &Digest, from: u64) -> Result<(Unfinished, File), StoreError> {
        let path = self.part_path(digest);
        if from == 0 {
            // Others that nobody came back for go when a new one comes.
            clear_parts(&self.ingest, MAX_PARTS).map_err(StoreError::io("clear", &self.ingest))?;
            disk::discard(&path);
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create(from == 0)
            .mode(INGEST_MODE)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        Ok((Unfinished { path, kept_from: Some(WORTH_KEEPING) }, file))
    }

    fn part_path(&self, digest: &Digest) -> PathBuf {
        self.ingest.join(format!("{}-{}{PART}", digest.algorithm().name(), digest.hex()))
    }

    /// Opens a new file under `ingest/`.
    pub(super) fn unfinished(&self) -> Result<(Unfinished, File), StoreError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.ingest.join(number.to_string());
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(INGEST_MODE)
            .open(&path)
            .map_err(StoreError::io("create", &path))?;
        Ok((Unfinished { path, kept_from: None }, file))
    }

    /// Writes bytes from memory under `ingest/`; they are not durable yet.
    fn write_small(&self, bytes: &[u8]) -> Result<(Unfinished, File), StoreError> {
        let (unfinished, mut file) = self.unfinished()?;
        disk::append(&mut file, bytes, FaultPoint::BlobWrite).map_err(StoreError::io("write", &unfinished.path))?;
        Ok((unfinished, file))
    }

    /// Gives verified, durable bytes their names: renames all, then one sync for each folder.
    pub(super) fn publish(&self, blobs: Vec<(Unfinished, Digest, u64)>) -> Result<(), StoreError> {
        let mut folders = HashSet::new();
        let mut renamed = Vec::new();
        for (unfinished, digest, length) in blobs {
            let path = self.path(&digest);
            let is_new = fs::symlink_metadata(&path).is_err();
            self.unsynced().insert(digest);
            if let Some(added) = self.count().added.as_mut() {
                added.insert(digest);
            }
            if let Err(error) = disk::rename(&unfinished.path, &path, FaultPoint::BlobRename) {
                self.unsynced().remove(&digest);
                return Err(StoreError::io("name", &path)(error));
            }
            unfinished.keep();
            if is_new {
                let mut count = self.count();
                count.sum = count.sum.saturating_add(length);
            }
            folders.insert(digest.algorithm());
            renamed.push(digest);
        }
        for algorithm in folders {
            let folder = self.folder.join(algorithm.name());
            let Some(names) = self.names.get(&algorithm) else { continue };
            // Where this fails the names stay unsynced: such blobs are not held, and will be taken in again.
            names.sync(&folder).map_err(StoreError::io("sync", &folder))?;
        }
        let mut unsynced = self.unsynced();
        for digest in renamed {
            unsynced.remove(&digest);
        }
        Ok(())
    }

    /// Takes in small blobs from memory; those that are held are skipped.
    ///
    /// All are written before the first is synced: the file system's own journal then takes them in at one go, and the
    /// later syncs find little left to do.
    pub(super) fn put(&self, blobs: Vec<(Algorithm, Bytes)>) -> Result<Vec<Digest>, StoreError> {
        let mut digests = Vec::with_capacity(blobs.len());
        for some in blobs.chunks(MAX_OPEN) {
            let mut written: Vec<(Unfinished, File, Digest, u64)> = Vec::with_capacity(some.len());
            for (algorithm, bytes) in some {
                let digest = Digest::with(*algorithm, bytes);
                digests.push(digest);
                if !self.has(&digest) && written.iter().all(|(_, _, other, _)| *other != digest) {
                    let (unfinished, file) = self.write_small(bytes)?;
                    written.push((unfinished, file, digest, bytes.len() as u64));
                }
            }
            let mut durable = Vec::with_capacity(written.len());
            for (unfinished, file, digest, length) in written {
                finish(&file, &unfinished.path)?;
                durable.push((unfinished, digest, length));
            }
            if !durable.is_empty() {
                self.publish(durable)?;
            }
        }
        Ok(digests)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.count().sum
    }

    /// Starts from a sum that was right once, until they are counted.
    pub(super) fn assume_bytes(&self, sum: u64) {
        let mut count = self.count();
        (count.sum, count.assumed) = (sum, sum);
    }

    /// Counts the bytes of all blobs by their names and lengths. Runs in the background, for it takes a while.
    pub(super) fn count_bytes(&self, stopping: impl Fn() -> bool) {
        let mut sum = 0_u64;
        for algorithm in Algorithm::ALL {
            let Ok(entries) = fs::read_dir(self.folder.join(algorithm.name())) else { return };
            for entry in entries {
                if stopping() {
                    return;
                }
                let Ok(entry) = entry else { return };
                let digest = format!("{}:{}", algorithm.name(), entry.file_name().to_string_lossy()).parse();
                let (Ok(digest), Ok(metadata)) = (digest, entry.metadata()) else { continue };
                let added = self.count().added.as_ref().is_some_and(|added| added.contains(&digest));
                if !added {
                    sum = sum.saturating_add(metadata.len());
                }
            }
        }
        let mut count = self.count();
        count.added = None;
        // What was added since stays in the sum, what was assumed goes.
        count.sum = count.sum.saturating_sub(count.assumed).saturating_add(sum);
    }
}

/// The syncs of one folder: those who come while one runs share the next, as commits share a frame of the journal.
#[derive(Debug, Default)]
struct Names {
    /// How many have asked, each after its names were there.
    asked: AtomicU64,
    /// How many of them are served. Held while the folder is synced.
    served: Mutex<u64>,
}

impl Names {
    /// Makes the names durable that are in the folder by now.
    fn sync(&self, folder: &Path) -> io::Result<()> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if *served < mine {
            let all = self.asked.load(Ordering::SeqCst);
            disk::sync_folder(folder, FaultPoint::BlobFolderSync)?;
            *served = all;
        }
        Ok(())
    }
}

/// Makes a file under `ingest/` durable and unwritable.
pub(super) fn finish(file: &File, path: &Path) -> Result<(), StoreError> {
    file.set_permissions(fs::Permissions::from_mode(BLOB_MODE)).map_err(StoreError::io("close", path))?;
    disk::sync_data(file, FaultPoint::BlobSync).map_err(StoreError::io("sync", path))
}

/// What lies in `ingest/`.
#[derive(Default)]
struct Listing {
    /// Beginnings of downloads, and when they were written to.
    parts: Vec<(SystemTime, PathBuf)>,
    others: Vec<PathBuf>,
}

/// Lists the beginnings of downloads in `ingest/`, the youngest first, and everything else in it.
fn list_ingest(ingest: &Path) -> io::Result<Listing> {
    let Listing { mut parts, mut others } = Listing::default();
    for entry in fs::read_dir(ingest)? {
        let entry = entry?;
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(PART));
        let digest = stem.and_then(|stem| stem.replacen('-', ":", 1).parse::<Digest>().ok());
        match entry.metadata() {
            Ok(metadata) if digest.is_some() && metadata.is_file() => {
                parts.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
            }
            _ => others.push(entry.path()),
        }
    }
    parts.sort_by(|a, b| b.cmp(a));
    Ok(Listing { parts, others })
}

/// Removes beginnings that are old, or more than so many.
fn clear_parts(ingest: &Path, most: usize) -> io::Result<()> {
    let Listing { parts, .. } = list_ingest(ingest)?;
    let now = SystemTime::now();
    let older = |at: &SystemTime, age| now.duration_since(*at).is_ok_and(|actual| actual > age);
    // What was written to a moment ago is being written to.
    let stale = parts.iter().enumerate();
    let stale = stale.filter(|(place, (at, _))| older(at, PART_AGE) || (*place >= most && older(at, IN_USE)));
    for (_, (_, path)) in stale {
        disk::discard(path);
    }
    Ok(())
}

/// Removes what nobody can go on with.
fn clear_unfinished(ingest: &Path) -> io::Result<()> {
    clear_parts(ingest, MAX_PARTS)?;
    let Listing { others, .. } = list_ingest(ingest)?;
    disk::clear(others.iter().map(PathBuf::as_path), FaultPoint::IngestClear)
}

/// A file under `ingest/`; dropped, it is removed, unless it is the beginning of a download and long enough.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
    kept_from: Option<u64>,
}

impl Unfinished {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Has it removed whatever it is: its bytes are wrong, or the disk is full.
    pub(super) fn give_up(&mut self) {
        self.kept_from = None;
    }

    /// Lets go of the file, which is not under `ingest/` any more.
    fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        let long = |least| fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.len() >= least);
        if !self.kept_from.is_some_and(long) {
            disk::discard(&self.path);
        }
    }
}
