//! Blobs, as streams (distribution-spec, "Pulling blobs").

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use http::{Method, StatusCode};
use larder_core::{Descriptor, Digest};
use reqwest::Response;
use tokio::sync::OwnedSemaphorePermit;

use super::error::{At, RemoteError};
use super::transport::Pace;
use super::{BlobStream, RemoteRepository, retry};

/// How often a download that breaks is taken up again.
const MAX_RESUMES: u32 = 5;

impl RemoteRepository {
    /// Fetches a blob, without its first `from` bytes, as a stream. The stream counts as a request under way until it is dropped.
    ///
    /// # Errors
    /// Fails where the blob is not there, or where the registry announces another length than the descriptor's.
    pub async fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<BlobStream, RemoteError> {
        let at = self.at(&format!("@{}", descriptor.digest));
        if from > 0 && from >= descriptor.size {
            return Ok(stream::empty().boxed());
        }
        let permit = self.connection.admit(&at, &Method::GET).await?;
        let mut download = Download {
            repository: self.clone(),
            at,
            digest: descriptor.digest,
            size: descriptor.size,
            received: from,
            skip: 0,
            response: None,
            resumes: 0,
            pace: Pace::default(),
            _permit: permit,
        };
        download.open().await?;
        Ok(stream::try_unfold(download, async |mut download| Ok(download.next().await?.map(|chunk| (chunk, download))))
            .boxed())
    }

    /// Fetches a small blob whole and verified, refusing more than `limit` bytes.
    ///
    /// # Errors
    /// Fails as [`Self::blob`] and its stream do, and where the digest is another one.
    pub async fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Bytes, RemoteError> {
        let at = self.at(&format!("@{}", descriptor.digest));
        if descriptor.size > limit {
            return Err(RemoteError::TooLarge { at, limit: super::transport::in_words(limit) });
        }
        let mut stream = self.blob(descriptor, 0).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        let expected = descriptor.digest;
        let actual = Digest::with(expected.algorithm(), &bytes);
        if actual == expected { Ok(bytes.freeze()) } else { Err(RemoteError::digest_mismatch(at, expected, actual)) }
    }

    /// Says whether a blob is there.
    ///
    /// # Errors
    /// Fails on every answer but "here" and 404.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RemoteError> {
        self.is_there(self.at(&format!("@{digest}")), &format!("blobs/{digest}"), &["*/*"], "blob").await
    }
}

/// A blob on its way.
struct Download {
    repository: RemoteRepository,
    at: At,
    digest: Digest,
    size: u64,
    /// How many bytes were passed on.
    received: u64,
    /// How many bytes of the present answer are to be dropped: a registry that knows no ranges begins anew.
    skip: u64,
    response: Option<Response>,
    resumes: u32,
    pace: Pace,
    _permit: OwnedSemaphorePermit,
}

impl Download {
    /// Returns the next bytes; `None` when all that the descriptor says have come.
    async fn next(&mut self) -> Result<Option<Bytes>, RemoteError> {
        loop {
            if self.response.is_none() {
                self.open().await?;
            }
            let Some(response) = &mut self.response else { return Err(self.truncated()) };
            let broke = match self.pace.next_chunk(&self.at, response).await {
                Ok(Some(mut chunk)) => {
                    let dropped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
                    drop(chunk.split_to(dropped));
                    self.skip -= dropped as u64;
                    if chunk.is_empty() {
                        continue;
                    }
                    let actual = self.received.saturating_add(chunk.len() as u64);
                    if actual > self.size {
                        return Err(RemoteError::LengthMismatch { at: self.at.clone(), expected: self.size, actual });
                    }
                    self.received = actual;
                    return Ok(Some(chunk));
                }
                // Whether the connection then ended in order does not matter: the digest decides.
                Ok(None) | Err(_) if self.received == self.size => return Ok(None),
                Ok(None) => self.truncated(),
                Err(RemoteError::Unreachable { .. }) => self.truncated(),
                Err(error) if retry::is_transient(&error) => error,
                Err(error) => return Err(error),
            };
            self.response = None;
            if self.resumes >= MAX_RESUMES {
                return Err(broke);
            }
            let wait = retry::wait(self.resumes.min(retry::MAX_RETRIES - 1), None).unwrap_or_default();
            tracing::debug!("{broke}; trying again");
            self.resumes += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for what is still missing.
    async fn open(&mut self) -> Result<(), RemoteError> {
        let mut call = self.repository.call(Method::GET, self.at.clone(), &format!("blobs/{}", self.digest))?;
        if self.received > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.received));
            call.headers.insert(RANGE, range.map_err(|_| self.truncated())?);
        }
        let response = self.repository.connection.call(&call).await?;
        let begins = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT
                if self.received > 0 && range_start(response.headers()) == Some(self.received) =>
            {
                self.received
            }
            StatusCode::PARTIAL_CONTENT => {
                let why = "it is another part of the blob than was asked for".into();
                return Err(RemoteError::Malformed { at: self.at.clone(), why });
            }
            _ => return Err(self.repository.failure(&self.at, response, "blob").await),
        };
        if let Some(length) = response.content_length() {
            let actual = length.saturating_add(begins);
            if actual != self.size {
                return Err(RemoteError::LengthMismatch { at: self.at.clone(), expected: self.size, actual });
            }
        }
        self.skip = self.received - begins;
        self.response = Some(response);
        Ok(())
    }

    fn truncated(&self) -> RemoteError {
        RemoteError::Truncated { at: self.at.clone(), expected: self.size, received: self.received }
    }
}

/// Reads where a partial answer begins: `Content-Range: bytes 5-9/10` (RFC 9110, 14.4).
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.parse().ok()
}
