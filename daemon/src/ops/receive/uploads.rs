//! Uploads: blobs that arrive in one piece or in many, kept in memory only as a list of what is
//! open. A restart forgets them; clients begin anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use larder_core::{Digest, Repository};

use crate::ops::Ctx;
use crate::store::{Ingest, StoreError};

/// How many uploads may be open at once.
const MAX_UPLOADS: usize = 256;
/// How long an upload stays open while nothing is written to it.
const IDLE: Duration = Duration::from_secs(600);
/// How long a client may be silent in the middle of a body.
const SILENCE: Duration = Duration::from_secs(60);
/// How many uploaded blobs are remembered: of more, the oldest are forgotten.
const MAX_UPLOADED: usize = 4096;
/// How long an uploaded blob is remembered: as long as a client may take from its first blob to its manifest.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// How many random bytes an id has: enough that nobody guesses another client's.
const ID_BYTES: usize = 16;

/// The open uploads. Cheap to clone.
#[derive(Clone, Default)]
pub struct Uploads {
    /// Held for look-ups only, never across an await; each upload has a lock of its own.
    open: Arc<Mutex<HashMap<String, Arc<Upload>>>>,
    /// What arrived whole, where and when. Held for look-ups only.
    uploaded: Arc<Mutex<HashMap<(Repository, Digest), Instant>>>,
}

struct Upload {
    repository: Repository,
    /// Held while a request writes; a second one at the same time is refused, not queued.
    state: tokio::sync::Mutex<State>,
}

struct State {
    ingest: Option<Ingest>,
    used: Instant,
    /// A write was begun and not seen to end: the request was dropped in the middle of it.
    torn: bool,
}

/// Where a chunk belongs, as the client says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Its first byte.
    pub first: Option<u64>,
    /// How many bytes it has.
    pub length: Option<u64>,
}

/// An upload's id and how many bytes it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The id.
    pub id: String,
    /// The bytes so far.
    pub written: u64,
}

/// Says why an upload does not go on.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is none of this id in this repository.
    #[error("there is no upload {id} in {repository}; begin a new one")]
    Unknown {
        /// The repository.
        repository: Repository,
        /// The id, as the client gave it, cut.
        id: String,
    },
    /// Another request is writing to it.
    #[error("another request is writing to the upload {0}")]
    Busy(String),
    /// As many are open as may be.
    #[error("{MAX_UPLOADS} uploads are open; finish or cancel some")]
    TooMany,
    /// The chunk does not begin where the upload ends.
    #[error("the chunk begins at byte {first}; the upload has {} bytes", .progress.written)]
    OutOfOrder {
        /// The chunk's first byte.
        first: u64,
        /// Where the upload stands.
        progress: Progress,
    },
    /// The body has not as many bytes as were announced.
    #[error("{announced} bytes were announced, and {actual} came")]
    Length {
        /// What was announced.
        announced: u64,
        /// What came (at least).
        actual: u64,
    },
    /// The body broke off.
    #[error("the body broke off after {written} bytes of the upload: {why}")]
    Body {
        /// The bytes that the upload has.
        written: u64,
        /// Why.
        why: String,
    },
    /// No random id could be made.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// The store failed, or the bytes have not the digest that they should have.
    #[error(transparent)]
    Store(Box<StoreError>),
}

impl From<StoreError> for UploadError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl Uploads {
    /// Opens an upload.
    ///
    /// # Errors
    /// Fails where too many are open.
    pub async fn begin(&self, ctx: &Ctx, repository: &Repository) -> Result<Progress, UploadError> {
        self.sweep(IDLE);
        let mut random = [0; ID_BYTES];
        getrandom::fill(&mut random).map_err(|error| UploadError::Random(error.to_string()))?;
        let id = larder_core::digest::hex(&random);
        if self.len() >= MAX_UPLOADS {
            return Err(UploadError::TooMany);
        }
        let ingest = ctx.store.ingest(None).await?;
        self.insert(id.clone(), repository.clone(), Some(ingest))?;
        Ok(Progress { id, written: 0 })
    }

    /// Says how far an upload is.
    ///
    /// # Errors
    /// Fails where it is not there or busy.
    pub fn progress(&self, repository: &Repository, id: &str) -> Result<Progress, UploadError> {
        let upload = self.find(repository, id)?;
        let state = upload.state.try_lock().map_err(|_| UploadError::Busy(id.to_owned()))?;
        match &state.ingest {
            Some(ingest) if !state.torn => Ok(Progress { id: id.to_owned(), written: ingest.written() }),
            _ => Err(unknown(repository, id)),
        }
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// Fails where the chunk does not fit; what was written stays, and the client may go on from there.
    pub async fn append(
        &self,
        repository: &Repository,
        id: &str,
        announced: Announced,
        body: impl Stream<Item = Result<Bytes, String>> + Unpin,
    ) -> Result<Progress, UploadError> {
        let upload = self.find(repository, id)?;
        let mut state = upload.state.try_lock().map_err(|_| UploadError::Busy(id.to_owned()))?;
        let result = state.append(repository, id, announced, body).await;
        if state.torn || state.ingest.is_none() {
            self.forget(id);
        }
        result
    }

    /// Appends the last chunk, verifies the digest and makes the blob durable.
    ///
    /// # Errors
    /// Fails as [`Self::append`] does, and where the digest differs; then the upload is gone.
    pub async fn finish(
        &self,
        ctx: &Ctx,
        repository: &Repository,
        id: &str,
        announced: Announced,
        body: impl Stream<Item = Result<Bytes, String>> + Unpin,
        digest: Digest,
    ) -> Result<Digest, UploadError> {
        let upload = self.find(repository, id)?;
        let mut state = upload.state.try_lock().map_err(|_| UploadError::Busy(id.to_owned()))?;
        // Nothing came yet: begin again with the digest that is now known, so that it is hashed as it should be.
        if !state.torn && state.ingest.as_ref().is_some_and(|ingest| ingest.written() == 0) {
            state.ingest = Some(ctx.store.ingest(Some((digest, announced.length.filter(|length| *length > 0)))).await?);
        }
        let appended = state.append(repository, id, announced, body).await;
        if state.torn || state.ingest.is_none() {
            self.forget(id);
        }
        appended?;
        self.forget(id);
        let ingest = state.ingest.take().ok_or_else(|| unknown(repository, id))?;
        let (digest, _) = ingest.commit(Some(digest)).await?;
        self.remember(repository, digest);
        Ok(digest)
    }

    /// Takes in a blob that comes in one request.
    ///
    /// # Errors
    /// Fails where the body breaks off, or has another digest or length.
    pub async fn whole(
        &self,
        ctx: &Ctx,
        repository: &Repository,
        length: Option<u64>,
        body: impl Stream<Item = Result<Bytes, String>> + Unpin,
        digest: Digest,
    ) -> Result<Digest, UploadError> {
        let ingest = ctx.store.ingest(Some((digest, length))).await?;
        let mut state = State { ingest: Some(ingest), used: Instant::now(), torn: false };
        state.append(repository, "", Announced { first: None, length }, body).await?;
        let ingest = state.ingest.take().ok_or_else(|| unknown(repository, ""))?;
        let (digest, _) = ingest.commit(Some(digest)).await?;
        self.remember(repository, digest);
        Ok(digest)
    }

    /// Drops an upload and its bytes.
    ///
    /// # Errors
    /// Fails where it is not there or busy.
    pub fn cancel(&self, repository: &Repository, id: &str) -> Result<(), UploadError> {
        let upload = self.find(repository, id)?;
        let mut state = upload.state.try_lock().map_err(|_| UploadError::Busy(id.to_owned()))?;
        state.ingest = None;
        self.forget(id);
        Ok(())
    }

    /// Says whether a blob was uploaded to this repository, or taken over into it, a short while ago.
    pub fn was_uploaded(&self, repository: &Repository, digest: Digest) -> bool {
        let key = (repository.clone(), digest);
        self.lock_uploaded().get(&key).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    /// Remembers that a blob arrived in a repository.
    pub(super) fn remember(&self, repository: &Repository, digest: Digest) {
        let mut uploaded = self.lock_uploaded();
        let key = (repository.clone(), digest);
        if uploaded.len() >= MAX_UPLOADED && !uploaded.contains_key(&key) {
            uploaded.retain(|_, at| at.elapsed() < REMEMBERED);
            // Half of them at once, so that not every upload has to look for the oldest.
            if uploaded.len() >= MAX_UPLOADED {
                let mut times: Vec<Instant> = uploaded.values().copied().collect();
                let (_, middle, _) = times.select_nth_unstable(MAX_UPLOADED / 2);
                let middle = *middle;
                uploaded.retain(|_, at| *at > middle);
            }
        }
        uploaded.insert(key, Instant::now());
    }

    /// Drops the uploads that were idle too long, and forgets what was uploaded long ago.
    pub fn sweep_idle(&self) {
        self.sweep(IDLE);
        self.lock_uploaded().retain(|_, at| at.elapsed() < REMEMBERED);
    }

    fn lock_uploaded(&self) -> std::sync::MutexGuard<'_, HashMap<(Repository, Digest), Instant>> {
        self.uploaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self, idle: Duration) {
        self.lock().retain(|_, upload| match upload.state.try_lock() {
            Ok(state) => state.used.elapsed() < idle,
            Err(_) => true, // somebody is writing
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Upload>>> {
        // The map is whole after any panic: nothing is done with it that has halves.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn insert(&self, id: String, repository: Repository, ingest: Option<Ingest>) -> Result<(), UploadError> {
        let mut open = self.lock();
        if open.len() >= MAX_UPLOADS {
            return Err(UploadError::TooMany);
        }
        let state = tokio::sync::Mutex::new(State { ingest, used: Instant::now(), torn: false });
        open.insert(id, Arc::new(Upload { repository, state }));
        Ok(())
    }

    fn find(&self, repository: &Repository, id: &str) -> Result<Arc<Upload>, UploadError> {
        let found = self.lock().get(id).filter(|upload| upload.repository == *repository).cloned();
        found.ok_or_else(|| unknown(repository, id))
    }

    fn forget(&self, id: &str) {
        self.lock().remove(id);
    }
}

impl State {
    async fn append(
        &mut self,
        repository: &Repository,
        id: &str,
        announced: Announced,
        mut body: impl Stream<Item = Result<Bytes, String>> + Unpin,
    ) -> Result<Progress, UploadError> {
        let Self { ingest: slot, used, torn } = self;
        let Some(ingest) = slot.as_mut().filter(|_| !*torn) else { return Err(unknown(repository, id)) };
        let begun = ingest.written();
        let progress = |written| Progress { id: id.to_owned(), written };
        if let Some(first) = announced.first.filter(|first| *first != begun) {
            return Err(UploadError::OutOfOrder { first, progress: progress(begun) });
        }
        let mut came: u64 = 0;
        loop {
            let chunk = match tokio::time::timeout(SILENCE, body.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(why))) => return Err(UploadError::Body { written: ingest.written(), why }),
                Err(_) => {
                    let why = format!("nothing came for {} seconds", SILENCE.as_secs());
                    return Err(UploadError::Body { written: ingest.written(), why });
                }
            };
            came = came.saturating_add(chunk.len() as u64);
            if let Some(announced) = announced.length.filter(|announced| came > *announced) {
                return Err(UploadError::Length { announced, actual: came });
            }
            *torn = true;
            ingest.write(chunk).await?;
            *torn = false;
            *used = Instant::now();
        }
        if let Some(announced) = announced.length.filter(|announced| came != *announced) {
            return Err(UploadError::Length { announced, actual: came });
        }
        *used = Instant::now();
        Ok(progress(ingest.written()))
    }
}

fn unknown(repository: &Repository, id: &str) -> UploadError {
    UploadError::Unknown { repository: repository.clone(), id: id.chars().take(2 * ID_BYTES).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> Repository {
        name.parse().expect("repository")
    }

    fn insert(uploads: &Uploads, id: &str) -> Result<(), UploadError> {
        uploads.insert(id.to_owned(), repository("localhost/x"), None)
    }

    #[test]
    fn an_upload_belongs_to_its_repository() {
        let uploads = Uploads::default();
        insert(&uploads, "1").expect("room");
        assert!(uploads.find(&repository("localhost/x"), "1").is_ok());
        assert!(matches!(uploads.find(&repository("localhost/y"), "1"), Err(UploadError::Unknown { .. })));
        uploads.cancel(&repository("localhost/x"), "1").expect("there");
        assert!(matches!(uploads.cancel(&repository("localhost/x"), "1"), Err(UploadError::Unknown { .. })));
    }

    #[test]
    fn their_number_is_bounded_and_idle_ones_go() {
        let uploads = Uploads::default();
        for id in 0..MAX_UPLOADS {
            insert(&uploads, &id.to_string()).expect("room");
        }
        assert!(matches!(insert(&uploads, "more"), Err(UploadError::TooMany)));
        uploads.sweep_idle();
        assert_eq!(uploads.len(), MAX_UPLOADS);
        let busy = uploads.find(&repository("localhost/x"), "7").expect("there");
        let _writing = busy.state.try_lock().expect("free");
        uploads.sweep(Duration::ZERO);
        assert_eq!(uploads.len(), 1, "the one that is being written stays");
    }

    #[test]
    fn two_requests_do_not_write_at_once() {
        let uploads = Uploads::default();
        insert(&uploads, "1").expect("room");
        let upload = uploads.find(&repository("localhost/x"), "1").expect("there");
        let _writing = upload.state.try_lock().expect("free");
        assert!(matches!(uploads.progress(&repository("localhost/x"), "1"), Err(UploadError::Busy(_))));
        assert!(matches!(uploads.cancel(&repository("localhost/x"), "1"), Err(UploadError::Busy(_))));
    }

    #[test]
    fn what_was_uploaded_is_remembered_where_and_not_without_bound() {
        let uploads = Uploads::default();
        let digest = |number: usize| Digest::of(&number.to_be_bytes());
        uploads.remember(&repository("localhost/x"), digest(0));
        assert!(uploads.was_uploaded(&repository("localhost/x"), digest(0)));
        assert!(!uploads.was_uploaded(&repository("localhost/y"), digest(0)));
        for number in 1..=MAX_UPLOADED {
            uploads.remember(&repository("localhost/x"), digest(number));
        }
        assert!(uploads.lock_uploaded().len() <= MAX_UPLOADED);
        assert!(uploads.was_uploaded(&repository("localhost/x"), digest(MAX_UPLOADED)));
        assert!(!uploads.was_uploaded(&repository("localhost/x"), digest(0)), "the oldest go first");
    }

    #[tokio::test]
    async fn a_torn_upload_is_unknown() {
        let uploads = Uploads::default();
        insert(&uploads, "1").expect("room");
        let body = futures_util::stream::iter([Ok(Bytes::from_static(b"x"))]);
        let repository = repository("localhost/x");
        let result = uploads.append(&repository, "1", Announced::default(), body).await;
        assert!(matches!(result, Err(UploadError::Unknown { .. })));
        assert_eq!(uploads.len(), 0);
    }
}
