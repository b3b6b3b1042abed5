//! The store: blobs, the journal, the facts table, the look-up index (DESIGN section 4).
//!
//! Bytes go in through [`Ingest`] and [`Store::put`], events through [`Store::commit`]; out come blobs that hash to
//! their names, the facts that verdicts are made of, look-ups and history. Durable first, visible second: blobs before
//! the record that names them, the record before facts, index, watchers and answer. The journal and the blobs are the
//! truth; `snapshot/` and `index/` are views of them. The store never verifies signatures.
//!
//! | module | what |
//! |---|---|
//! | [`disk`] | every durable step, by name |
//! | `home` | the lock, the format, the folders |
//! | `blobs`, [`ingest`], `quarantine` | content |
//! | `journal`, [`record`], `wire` | what happened, and how it is written |
//! | `committer`, `apply` | commits, one frame for all that wait |
//! | `snapshot`, `index` | the views |
//! | `prune` | the oldest part of the journal, replaced by what still matters of it |
//! | `recovery` | what is found at a start, and what follows |

mod apply;
mod blobs;
mod committer;
pub mod disk;
mod error;
mod home;
mod index;
pub mod ingest;
mod journal;
mod prune;
mod quarantine;
pub mod record;
mod recovery;
mod shared;
mod snapshot;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests damage homes as disks and people do")]
mod tests;
mod wire;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLockReadGuard};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use jiff::Timestamp;
use larder_core::digest::Algorithm;
use larder_core::facts::Facts;
use larder_core::manifest::{MAX_MANIFEST_BYTES, Manifest};
use larder_core::{Digest, Repository, Tag};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task;

use self::committer::{Committer, QUEUE, Waiting};
pub use self::error::{OpenError, StoreError};
pub use self::ingest::Ingest;
pub use self::prune::Pruning;
use self::record::{Actor, Event, HistoryOf, ListKey, ManifestAdded, Record, TagRow};
use self::recovery::{IndexWork, Opened};
use self::shared::Shared;
use crate::clock::Clock;
use crate::config::DEFAULT_SEGMENT_BYTES;

/// The most records that one reading of history gives.
const MAX_HISTORY: usize = 10_000;

/// The open store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// `None` once closed.
    commits: Mutex<Option<mpsc::Sender<Waiting>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// One pruning at a time; held while its steps are awaited.
    pruning: tokio::sync::Mutex<()>,
}

impl Store {
    /// Opens (or creates) a home as [`Self::open_with`] does, with segments of the usual size.
    ///
    /// # Errors
    /// Fails as that does.
    pub fn open(home: &Path, clock: Arc<Clock>) -> Result<(Self, Vec<String>), OpenError> {
        Self::open_with(home, clock, DEFAULT_SEGMENT_BYTES)
    }

    /// Opens (or creates) a home. Blocking. Returns also what was mended, as lines for people. The journal begins a new
    /// segment where the last one has `segment_bytes`.
    ///
    /// A journal with a loss does not keep the store from opening: it is read-only then, see [`Self::read_only`].
    ///
    /// # Errors
    /// Fails where the folder is held by another daemon, is not ours, is of a newer format, or cannot be read.
    pub fn open_with(home: &Path, clock: Arc<Clock>, segment_bytes: u64) -> Result<(Self, Vec<String>), OpenError> {
        let Opened { shared, journal, index_work, unverified, mended } = recovery::open(home, clock, segment_bytes)?;
        let shared = Arc::new(shared);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let committer = Committer::new(Arc::clone(&shared), journal, receiver);
        let mut threads = vec![spawn("journal", home, move || committer.run())?];
        let is_built = index_work == IndexWork::Anew && shared.build_empty_index();
        if index_work != IndexWork::None && !is_built {
            let shared = Arc::clone(&shared);
            threads.push(spawn("index", home, move || shared.rebuild_index(index_work == IndexWork::Anew))?);
        }
        let counting = Arc::clone(&shared);
        threads.push(spawn("count", home, move || counting.blobs.count_bytes(|| counting.stop.is_set()))?);
        // What is read-only already may lack what this would read.
        if shared.why_read_only().is_none() {
            let verifying = Arc::clone(&shared);
            threads.push(spawn("verify", home, move || verifying.verify(&unverified))?);
        }
        let inner = Inner {
            shared,
            commits: Mutex::new(Some(sender)),
            threads: Mutex::new(threads),
            pruning: tokio::sync::Mutex::default(),
        };
        Ok((Self { inner: Arc::new(inner) }, mended))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Does blocking work where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(self.shared());
        task::spawn_blocking(move || work(&shared)).await.map_err(|_| StoreError::Stopping)?
    }
}

/// Blobs.
impl Store {
    /// Says whether a blob is held (a name under `blobs/`). A system call of a few microseconds.
    pub fn has(&self, digest: &Digest) -> bool {
        self.shared().blobs.has(digest)
    }

    /// Returns a blob's length.
    pub fn length(&self, digest: &Digest) -> Option<u64> {
        self.shared().blobs.length(digest)
    }

    /// Begins to take in a blob. `expected` (with its length, if known) is verified at commit; without one, commit
    /// tells the sha256 digest.
    ///
    /// # Errors
    /// Fails where the store is read-only.
    pub async fn ingest(&self, expected: Option<(Digest, Option<u64>)>) -> Result<Ingest, StoreError> {
        self.check_writable()?;
        let (digest, length) = expected.map_or((None, None), |(digest, length)| (Some(digest), length));
        Ok(Ingest::begin(Arc::clone(self.shared()), digest, length))
    }

    /// Says how many bytes of a blob an earlier download left here: a beginning that counts for nothing before the whole
    /// is verified.
    pub fn begun(&self, digest: &Digest, length: u64) -> u64 {
        self.shared().blobs.begun(digest, length)
    }

    /// Goes on with a download where an earlier one ended, or begins one that can be gone on with.
    ///
    /// # Errors
    /// Fails where the store is read-only.
    pub async fn resume(&self, digest: Digest, length: u64, from: u64) -> Result<Ingest, StoreError> {
        self.check_writable()?;
        Ok(Ingest::resume(Arc::clone(self.shared()), digest, length, from))
    }

    /// Takes in a small blob that is in memory; nothing happens where it is held.
    ///
    /// # Errors
    /// Fails where the store is read-only or the disk does not take it.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, StoreError> {
        let digest = Digest::of(&bytes);
        self.put_many(vec![(digest.algorithm(), bytes)]).await?;
        Ok(digest)
    }

    /// Takes in small blobs that are in memory, with one sync of the folder for all; those that are held are skipped.
    ///
    /// # Errors
    /// Fails where the store is read-only or the disk does not take them; some may be held then.
    pub async fn put_many(&self, blobs: Vec<(Algorithm, Bytes)>) -> Result<Vec<Digest>, StoreError> {
        self.check_writable()?;
        self.blocking(move |shared| shared.blobs.put(blobs)).await
    }

    /// Opens a blob for reading, with its length. What is read is not verified.
    ///
    /// # Errors
    /// Fails where it is not held or cannot be opened.
    pub async fn open_blob(&self, digest: &Digest) -> Result<(tokio::fs::File, u64), StoreError> {
        let digest = *digest;
        let (file, length) = self.blocking(move |shared| shared.blobs.open_file(&digest)).await?;
        Ok((tokio::fs::File::from_std(file), length))
    }

    /// Reads a small blob whole (at most `limit` bytes), its digest verified.
    ///
    /// # Errors
    /// Fails where it is not held, too long, or cannot be read. Bytes that fail their digest are moved to quarantine, so
    /// that the blob is not held any more; whoever follows [`Self::corrupt`] puts that on record ([`Event::Corruption`]).
    pub async fn read(&self, digest: &Digest, limit: u64) -> Result<Bytes, StoreError> {
        let digest = *digest;
        self.blocking(move |shared| shared.blobs.read(&digest, limit)).await
    }

    /// Reads a blob of any length through and verifies it.
    ///
    /// # Errors
    /// Fails as [`Self::read`] does.
    pub async fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        let digest = *digest;
        self.blocking(move |shared| shared.blobs.verify(&digest)).await
    }

    /// Takes the receiver of what failed its digest when it was read, and is in quarantine; `None` after the first call.
    pub fn corrupt(&self) -> Option<mpsc::UnboundedReceiver<Digest>> {
        self.shared().blobs.corrupt()
    }

    /// Reads a manifest that is held.
    ///
    /// # Errors
    /// Fails as [`Self::read`] does, and where the blob is no manifest.
    pub async fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let bytes = self.read(digest, MAX_MANIFEST_BYTES).await?;
        Manifest::parse_as(bytes, None, *digest)
            .map_err(|source| StoreError::Manifest { digest: *digest, source: Box::new(source) })
    }

    /// Says whether so many bytes of blobs can be taken in, before the first of them comes.
    ///
    /// # Errors
    /// Fails with `NoRoom` where the disk has less free.
    pub fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        let lacking = |free| StoreError::NoRoom { needed: bytes, free };
        ingest::has_room(self.shared().blobs.folder(), bytes).map_err(lacking)
    }

    /// Returns the bytes of all blobs: a running sum, for the first moments after a start that of the last snapshot.
    pub fn bytes(&self) -> u64 {
        self.shared().blobs.bytes()
    }
}

/// The journal.
impl Store {
    /// Makes events durable, in one frame, all or nothing, and then visible: facts, index, watchers. Returns their
    /// records, with seqs, times and what the tags named before. Once it has begun it is done, also if the caller goes.
    ///
    /// # Errors
    /// Fails with `NotHeld` where a manifest that is added, or what a tag is to name, is not held; with `Incomplete` where
    /// a successor is neither held nor left out; with `Full` where the disk is full (to be tried again later); with `ReadOnly`; with `Rebuilding` where
    /// tags are moved while nobody knows what they name. Nothing is visible then.
    pub async fn commit(&self, actor: Actor, events: Vec<Event>) -> Result<Vec<Record>, StoreError> {
        self.check_writable()?;
        let commits = self.inner.commits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let commits = commits.ok_or(StoreError::Stopping)?;
        let (answer, answered) = oneshot::channel();
        commits.send(Waiting { actor, events, answer }).await.map_err(|_| StoreError::Stopping)?;
        drop(commits);
        answered.await.map_err(|_| StoreError::Stopping)?
    }

    /// Watches the last durable and visible seq.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.shared().seen.subscribe()
    }

    /// Says whether anything can be written.
    ///
    /// # Errors
    /// Fails where the store is read-only.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        match self.shared().why_read_only() {
            Some(why) => Err(StoreError::ReadOnly { why }),
            None => Ok(()),
        }
    }

    /// Watches why nothing can be written; `None` while all is well.
    pub fn read_only(&self) -> watch::Receiver<Option<String>> {
        self.shared().read_only.subscribe()
    }

    /// Reads history: records with seq greater than `after` (oldest first), at most `limit`. For the watch.
    ///
    /// A record of several verdicts may begin in the middle: its seq is that of its first verdict here.
    ///
    /// # Errors
    /// Fails with `Pruned` where not all of it is there any more, and where the journal cannot be read.
    pub async fn history_after(&self, after: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.blocking(move |shared| {
            let records = shared.reader.after(after, shared.head().readable, limit.min(MAX_HISTORY))?;
            // Last, for it may have been pruned meanwhile.
            let oldest = shared.reader.oldest();
            if after.saturating_add(1) < oldest { Err(StoreError::Pruned { oldest }) } else { Ok(records) }
        })
        .await
    }

    /// Reads the record that has `seq`, from there on: of verdicts told together, that one and those behind it. Also one
    /// that was pruned, where it still matters: a subject's last telling does.
    ///
    /// # Errors
    /// Fails where the journal cannot be read.
    pub async fn record_from(&self, seq: u64) -> Result<Option<Record>, StoreError> {
        self.blocking(move |shared| {
            let record = shared.reader.after(seq.saturating_sub(1), shared.head().readable, 1)?.pop();
            Ok(record.filter(|record| record.seq == seq))
        })
        .await
    }

    /// Returns the oldest seq whose record is there as it was written, and when what was before it was pruned.
    pub fn oldest(&self) -> (u64, Option<Timestamp>) {
        let base = self.shared().reader.base();
        let pruned = base.and_then(|base| Timestamp::from_millisecond(base.written).ok());
        (base.map_or(1, |base| base.until.seq.saturating_add(1)), pruned)
    }

    /// Watches how far the verification of the older part of the journal is, in bytes: done and total; `None` once all of
    /// it was read through, whole.
    pub fn verifying(&self) -> watch::Receiver<Option<(u64, u64)>> {
        self.shared().verifying.subscribe()
    }

    /// Watches how many segments of the journal were begun since the start.
    pub fn segments_begun(&self) -> watch::Receiver<u64> {
        self.shared().reader.begun()
    }

    /// Reads history: records below `before` (newest first), at most `limit`; of everything, of a subject or of a tag. Of what
    /// was pruned there is what still matters.
    /// Of verdicts told together, a subject's and a tag's history have those that concern it, each as its own record.
    ///
    /// # Errors
    /// Fails where the journal cannot be read, and, but for the history of everything, while the index is rebuilt.
    pub async fn history_before(&self, of: HistoryOf, before: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.blocking(move |shared| {
            let (head, limit) = (shared.head().readable, limit.min(MAX_HISTORY));
            if of == HistoryOf::All {
                return shared.reader.before(before, head, limit);
            }
            let (mut records, mut before) = (Vec::new(), before);
            loop {
                // The index may still name what was pruned.
                let wanted = limit - records.len();
                let seqs = shared.index.history(&of, before, wanted)?;
                for seq in &seqs {
                    records.extend(shared.reader.at(*seq, head)?);
                }
                match seqs.last() {
                    Some(last) if seqs.len() == wanted && records.len() < limit => before = *last,
                    _ => return Ok(records),
                }
            }
        })
        .await
    }

    /// Returns the digest of the trust set last put in force, when that was recorded, and the record's seq.
    pub fn trust_in_force(&self) -> Option<(Digest, Timestamp, u64)> {
        self.shared().head().trust
    }

    /// Writes a snapshot and closes: what comes after fails with `Stopping`, and the home is free. Blocking.
    ///
    /// # Errors
    /// Fails where the snapshot cannot be written; the store is closed all the same, and nothing is lost.
    pub fn close(&self) -> Result<(), StoreError> {
        if !self.inner.end() {
            return Ok(());
        }
        let shared = self.shared();
        let written = shared.snapshot().map_err(StoreError::io("write a snapshot to", &shared.snapshots));
        self.inner.free();
        written
    }
}

/// Facts.
impl Store {
    /// Reads the facts table. Never hold this across an await.
    pub fn facts(&self) -> RwLockReadGuard<'_, Facts> {
        self.shared().facts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records results of checks (in memory; kept by the next snapshot, and computed again where that is lost).
    pub fn with_facts(&self, record: impl FnOnce(&mut Facts)) {
        record(&mut self.shared().facts_mut());
    }
}

/// Look-ups by the index. All fail with `Rebuilding` while it is rebuilt.
impl Store {
    /// Returns what a tag names, and the record that moved it there. Looked up on the spot: a few microseconds, where
    /// another thread would cost more than the look-up.
    ///
    /// # Errors
    /// Fails while the index is rebuilt.
    pub async fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRow>, StoreError> {
        self.shared().index.tag(repository, tag)
    }

    /// Lists a repository's tags in lexical order, after `after`, at most `limit`; tags of signatures too.
    ///
    /// # Errors
    /// Fails while the index is rebuilt.
    pub async fn tags(
        &self,
        repository: &Repository,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Tag, TagRow)>, StoreError> {
        let (repository, after) = (repository.clone(), after.map(str::to_owned));
        self.blocking(move |shared| shared.index.tags(&repository, after.as_deref(), limit)).await
    }

    /// Lists the tags of a repository that name a digest. Looked up on the spot, as [`Self::tag`] is.
    ///
    /// # Errors
    /// Fails while the index is rebuilt.
    pub async fn tags_of(&self, repository: &Repository, digest: Digest) -> Result<Vec<Tag>, StoreError> {
        self.shared().index.tags_of(repository, &digest)
    }

    /// Returns what is known of a manifest in a repository. Looked up on the spot, as [`Self::tag`] is.
    ///
    /// # Errors
    /// Fails while the index is rebuilt.
    pub async fn manifest_row(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<Option<ManifestAdded>, StoreError> {
        self.shared().index.manifest(repository, &digest)
    }

    /// Says whether a repository holds any manifest. Looked up on the spot, as [`Self::tag`] is.
    ///
    /// # Errors
    /// Fails while the index is rebuilt.
    pub async fn has_repository(&self, repository: &Repository) -> Result<bool, StoreError> {
        self.shared().index.has_repository(repository)
    }

    /// Lists the repositories that hold manifests, in the order of their names, after `after`, at most `limit`.
    ///
    /// # Errors
    /// Fails while the index is rebuilt.
    pub async fn repositories(&self, after: Option<&Repository>, limit: usize) -> Result<Vec<Repository>, StoreError> {
        let after = after.cloned();
        self.blocking(move |shared| shared.index.repositories(after.as_ref(), limit)).await
    }

    /// Pages through all subjects and tags for `ls`, ordered by (repository, tag, digest): entries after `after`, at most
    /// `limit`. Subjects without tag come after the repository's tags; children that came through an index, and tags
    /// that only hold signatures, are not listed.
    ///
    /// # Errors
    /// Fails while the index is rebuilt.
    pub async fn list(&self, after: Option<&ListKey>, limit: usize) -> Result<Vec<ListKey>, StoreError> {
        let after = after.cloned();
        self.blocking(move |shared| shared.index.list(after.as_ref(), limit)).await
    }

    /// Lists what is attached to a digest, found in any repository, ordered by (repository, digest).
    ///
    /// # Errors
    /// Fails while the index is rebuilt.
    pub async fn attached(&self, subject: Digest) -> Result<Vec<ManifestAdded>, StoreError> {
        self.blocking(move |shared| shared.index.attached(&subject)).await
    }

    /// Lists the manifests of a repository that list `digest` (a blob or a manifest) as a successor.
    ///
    /// # Errors
    /// Fails while the index is rebuilt.
    pub async fn listed_by(&self, repository: &Repository, digest: Digest) -> Result<Vec<Digest>, StoreError> {
        let repository = repository.clone();
        self.blocking(move |shared| shared.index.listed_by(&repository, &digest)).await
    }

    /// Lists the manifests of every repository that list `digest` as a successor.
    ///
    /// # Errors
    /// Fails while the index is rebuilt.
    pub async fn listed_anywhere(&self, digest: Digest) -> Result<Vec<(Repository, Digest)>, StoreError> {
        self.blocking(move |shared| shared.index.listed_anywhere(&digest)).await
    }

    /// How far the rebuilding of the index is (done, total); `None` when it is ready.
    pub fn rebuilding(&self) -> Option<(u64, u64)> {
        self.shared().index.rebuilding()
    }
}

impl Inner {
    /// Ends the threads: what waits to be committed is committed. `false` where that was done already.
    fn end(&self) -> bool {
        let Some(commits) = self.commits.lock().unwrap_or_else(PoisonError::into_inner).take() else { return false };
        drop(commits);
        self.shared.stop.set();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A panic there was logged, and has made the store read-only.
            let _ = thread.join();
        }
        true
    }

    /// Lets go of the index and the home.
    fn free(&self) {
        self.shared.index.close();
        self.shared.home.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without a close there is no snapshot; what was committed is in the journal.
        if self.end() {
            self.free();
        }
    }
}

fn spawn(name: &str, home: &Path, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(OpenError::io("start a thread for", home))
}
