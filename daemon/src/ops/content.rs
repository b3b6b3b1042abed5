//! Content as another tool reads and writes it: a manifest or blob through the gate or past it, which of some digests
//! are missing, and blobs that arrive in pieces under a name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_core::{Digest, Repository};

use super::Ctx;
use super::serve::{self, Named, ServeError};
use crate::store::{Ingest, StoreError};

/// How many writes may be open at once; each holds a file and a thread of the blocking pool.
pub const MAX_WRITES: usize = 64;
/// How long a write stays open while nothing is written to it.
pub const IDLE: Duration = Duration::from_secs(600);
/// The longest name of a write.
const MAX_NAME: usize = 128;

/// Through what content is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The gate, as what this repository holds.
    Gated(Repository),
    /// No gate: in any state but corrupt, listed by a manifest or not.
    AnyState,
}

/// Content that may be read.
#[derive(Debug)]
pub struct Content {
    /// Its bytes.
    pub bytes: ContentBytes,
    /// How many there are.
    pub size: u64,
    /// What its reader should be told.
    pub warning: Option<String>,
}

/// Where the bytes of content are.
#[derive(Debug)]
pub enum ContentBytes {
    /// A manifest's, in memory.
    Memory(Bytes),
    /// A blob's.
    File(tokio::fs::File),
}

/// Says why content is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The gate, or the repository.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// No bytes of this digest are here.
    #[error("{0} is not held here")]
    NotHeld(Digest),
    /// Its bytes failed their digest.
    #[error("{0} is corrupt: its bytes failed their digest")]
    Corrupt(Digest),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens content for reading.
///
/// # Errors
/// Fails where it is not held, is corrupt, or the gate that it is read through holds it back.
pub async fn read(ctx: &Ctx, mode: &Mode, digest: Digest) -> Result<Content, ReadError> {
    match mode {
        Mode::Gated(repository) => {
            if ctx.store.manifest_row(repository, digest).await?.is_some() {
                let served = serve::manifest(ctx, repository, &Named::Digest(digest)).await?;
                let raw = served.value.raw().clone();
                let size = raw.len() as u64;
                return Ok(Content { bytes: ContentBytes::Memory(raw), size, warning: served.warning });
            }
            let served = serve::blob(ctx, repository, digest).await?;
            let (file, size) = (served.value.file, served.value.length);
            Ok(Content { bytes: ContentBytes::File(file), size, warning: served.warning })
        }
        Mode::AnyState => {
            if ctx.store.facts().is_corrupt(digest) {
                return Err(ReadError::Corrupt(digest));
            }
            if !ctx.store.has(&digest) {
                return Err(ReadError::NotHeld(digest));
            }
            let (file, size) = ctx.store.open_blob(&digest).await?;
            Ok(Content { bytes: ContentBytes::File(file), size, warning: None })
        }
    }
}

/// Returns those of the digests that are not held, in their order, each once. What is corrupt is not held.
pub fn missing(ctx: &Ctx, digests: &[Digest]) -> Vec<Digest> {
    let mut missing = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for digest in digests {
        let held = ctx.store.has(digest) && !ctx.store.facts().is_corrupt(*digest);
        if !held && seen.insert(*digest) {
            missing.push(*digest);
        }
    }
    missing
}

/// The name of a write: whose, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WriteName {
    caller: String,
    name: String,
}

impl WriteName {
    /// Reads a name that this caller chose.
    ///
    /// # Errors
    /// Fails where it is empty, too long, or has characters that a name has not.
    pub fn new(caller: &str, name: &str) -> Result<Self, WriteError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@/-".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
            return Err(WriteError::Name);
        }
        Ok(Self { caller: caller.to_owned(), name: name.to_owned() })
    }

    /// Returns the caller's own part.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// Says why a write does not go on.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It has no usable name.
    #[error("a write's name is 1 to {MAX_NAME} characters of A-Z a-z 0-9 . _ : @ / -")]
    Name,
    /// There is none of this name.
    #[error("there is no write {0:?}")]
    Unknown(String),
    /// Another call is writing to it.
    #[error("another call is writing to {0:?}")]
    Busy(String),
    /// As many are open as may be.
    #[error("{MAX_WRITES} writes are open")]
    TooMany,
    /// The data does not begin where the write stands.
    #[error("the data begins at byte {offset}; the write {name:?} has {written} bytes")]
    WrongOffset {
        /// The write.
        name: String,
        /// Where the data begins.
        offset: u64,
        /// Where the write stands.
        written: u64,
    },
    /// It is to be committed, and has not the length that was announced.
    #[error("the write {name:?} has {written} bytes, and was announced with {total}")]
    Length {
        /// The write.
        name: String,
        /// What it should have.
        total: u64,
        /// What it has.
        written: u64,
    },
    /// The store failed, or the bytes have not the digest that they should have.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The open writes, kept in memory only as a list. Cheap to clone.
///
/// A caller must see every call here to its end: one that is dropped in the middle leaves a write that has taken
/// fewer bytes than it says.
#[derive(Clone, Default)]
pub struct Writes {
    /// Held for look-ups only, never across an await; each write has a lock of its own.
    open: Arc<Mutex<HashMap<WriteName, Arc<tokio::sync::Mutex<Write>>>>>,
}

#[derive(Debug)]
struct Write {
    ingest: Option<Ingest>,
    used: Instant,
}

impl Write {
    fn written(&self) -> u64 {
        self.ingest.as_ref().map_or(0, Ingest::written)
    }
}

impl Writes {
    /// Says where a write stands; begins it where there is none.
    ///
    /// # Errors
    /// Fails where it is busy, or too many are open.
    pub fn stat(&self, name: &WriteName) -> Result<u64, WriteError> {
        let write = self.find_or_begin(name)?;
        let mut write = write.try_lock().map_err(|_| WriteError::Busy(name.name.clone()))?;
        write.used = Instant::now();
        Ok(write.written())
    }

    /// Appends data, and says where the write stands then.
    ///
    /// # Errors
    /// Fails where the data does not begin where the write stands: then it stays as it was. Where the store fails, the
    /// write is gone.
    pub async fn append(&self, ctx: &Ctx, name: &WriteName, offset: u64, data: Bytes) -> Result<u64, WriteError> {
        let write = self.find_or_begin(name)?;
        let mut write = write.try_lock().map_err(|_| WriteError::Busy(name.name.clone()))?;
        self.extend(ctx, name, &mut write, offset, data).await
    }

    /// Appends data, verifies digest and length, and makes the blob durable.
    ///
    /// # Errors
    /// Fails as [`Self::append`] does; where the length differs, the write stays; where the digest does, it is gone.
    pub async fn commit(
        &self,
        ctx: &Ctx,
        name: &WriteName,
        offset: u64,
        data: Bytes,
        total: Option<u64>,
        expected: Digest,
    ) -> Result<(Digest, u64), WriteError> {
        let write = self.find_or_begin(name)?;
        let mut write = write.try_lock().map_err(|_| WriteError::Busy(name.name.clone()))?;
        if offset == 0 && write.written() == 0 {
            // Nothing came yet: hash it from the start as it is named.
            write.ingest = Some(ctx.store.ingest(Some((expected, Some(data.len() as u64)))).await?);
        }
        let written = self.extend(ctx, name, &mut write, offset, data).await?;
        if let Some(total) = total.filter(|total| *total != written) {
            return Err(WriteError::Length { name: name.name.clone(), total, written });
        }
        self.forget(name);
        let ingest = write.ingest.take().ok_or_else(|| WriteError::Unknown(name.name.clone()))?;
        Ok(ingest.commit(Some(expected)).await?)
    }

    /// Drops a write and its bytes.
    ///
    /// # Errors
    /// Fails where it is not there or busy.
    pub fn abort(&self, name: &WriteName) -> Result<(), WriteError> {
        let found = self.lock().get(name).cloned().ok_or_else(|| WriteError::Unknown(name.name.clone()))?;
        let mut write = found.try_lock().map_err(|_| WriteError::Busy(name.name.clone()))?;
        write.ingest = None;
        self.forget(name);
        Ok(())
    }

    /// Drops the writes that were idle for so long.
    pub fn sweep(&self, idle: Duration) {
        self.lock().retain(|_, write| match write.try_lock() {
            Ok(write) => write.used.elapsed() < idle,
            Err(_) => true, // somebody is writing
        });
    }

    async fn extend(
        &self,
        ctx: &Ctx,
        name: &WriteName,
        write: &mut Write,
        offset: u64,
        data: Bytes,
    ) -> Result<u64, WriteError> {
        write.used = Instant::now();
        let written = write.written();
        if offset != written {
            return Err(WriteError::WrongOffset { name: name.name.clone(), offset, written });
        }
        if write.ingest.is_none() {
            write.ingest = Some(ctx.store.ingest(None).await?);
        }
        let Some(ingest) = write.ingest.as_mut() else { return Err(WriteError::Unknown(name.name.clone())) };
        if !data.is_empty()
            && let Err(error) = ingest.write(data).await
        {
            write.ingest = None;
            self.forget(name);
            return Err(error.into());
        }
        Ok(write.written())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WriteName, Arc<tokio::sync::Mutex<Write>>>> {
        // The map is whole after any panic: nothing is done with it that has halves.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_or_begin(&self, name: &WriteName) -> Result<Arc<tokio::sync::Mutex<Write>>, WriteError> {
        if let Some(write) = self.lock().get(name) {
            return Ok(Arc::clone(write));
        }
        self.sweep(IDLE);
        let mut open = self.lock();
        if open.len() >= MAX_WRITES && !open.contains_key(name) {
            return Err(WriteError::TooMany);
        }
        let begun = || Arc::new(tokio::sync::Mutex::new(Write { ingest: None, used: Instant::now() }));
        Ok(Arc::clone(open.entry(name.clone()).or_insert_with(begun)))
    }

    fn forget(&self, name: &WriteName) {
        self.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(caller: &str, text: &str) -> WriteName {
        WriteName::new(caller, text).expect("a name")
    }

    #[test]
    fn names_are_bounded() {
        for wrong in ["", "a b", "é", "a\n", &"x".repeat(129)] {
            assert!(matches!(WriteName::new("uid 0", wrong), Err(WriteError::Name)), "{wrong:?}");
        }
        assert_eq!(name("uid 0", "layer-sha256:0/1@x_y.z").as_str(), "layer-sha256:0/1@x_y.z");
    }

    #[test]
    fn a_name_is_its_callers_own() {
        let writes = Writes::default();
        writes.stat(&name("uid 0", "a")).expect("room");
        assert!(matches!(writes.abort(&name("uid 1", "a")), Err(WriteError::Unknown(_))));
        writes.abort(&name("uid 0", "a")).expect("there");
    }

    #[test]
    fn their_number_is_bounded_and_idle_ones_go() {
        let writes = Writes::default();
        for number in 0..MAX_WRITES {
            writes.stat(&name("uid 0", &number.to_string())).expect("room");
        }
        assert!(matches!(writes.stat(&name("uid 0", "more")), Err(WriteError::TooMany)));
        assert_eq!(writes.stat(&name("uid 0", "7")).expect("it is open"), 0);
        let busy = writes.find_or_begin(&name("uid 0", "7")).expect("there");
        let _writing = busy.try_lock().expect("free");
        assert!(matches!(writes.stat(&name("uid 0", "7")), Err(WriteError::Busy(_))));
        writes.sweep(Duration::ZERO);
        assert_eq!(writes.lock().len(), 1, "the one that is being written stays");
    }
}
