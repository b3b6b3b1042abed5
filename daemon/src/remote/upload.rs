//! Blobs and manifests uploaded (distribution-spec, "Push").

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use larder_core::manifest::{MAX_MANIFEST_BYTES, Manifest, OCI_INDEX};
use larder_core::{Descriptor, Digest, Tag};
use oci_distribution::manifest::{ImageIndexEntry, OciImageIndex};
use reqwest::{Body, Request, Response, Url};

use super::address::Reach;
use super::error::{At, RemoteError};
use super::redirect::same_origin;
use super::referrers::fallback_tag;
use super::{RemoteRepository, confirm_digest, retry};

/// How a registry with the referrers API says that it has listed a pushed manifest under its subject.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// How often a fallback index is written again that somebody else has overwritten meanwhile.
const MAX_FALLBACK_WRITES: usize = 3;

/// A blob's bytes on their way out.
pub type Upload = BoxStream<'static, std::io::Result<Bytes>>;

impl RemoteRepository {
    /// Uploads a blob in one piece; where that fails in a way that may pass, once more from its first byte, as an upload of
    /// its own. Whether it is there already is the caller's to ask. `read` is called for each try.
    ///
    /// # Errors
    /// Fails where the registry refuses it, and where there are not as many bytes as the descriptor says.
    pub async fn push_blob<'a>(
        &self,
        descriptor: &Descriptor,
        read: &'a (dyn Fn() -> BoxFuture<'a, std::io::Result<Upload>> + Send + Sync),
    ) -> Result<(), RemoteError> {
        let at = self.at(&format!("@{} (upload)", descriptor.digest));
        let _permit = self.connection.admit(&at, &Method::PUT).await?;
        let mut attempt = 0;
        let response = loop {
            // This tries again by itself.
            let (url, reach) = self.start_upload(&at, &descriptor.digest).await?;
            let bytes = read().await.map_err(|source| RemoteError::Source { at: at.clone(), source })?;
            let outcome = self.put_blob(&at, url, reach, descriptor.size, bytes).await;
            let Some(wait) = self.wait_after_upload(&outcome, attempt) else { break outcome? };
            drop(outcome);
            tokio::time::sleep(wait).await;
            attempt += 1;
        };
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => {
                confirm_digest(&at, response.headers(), descriptor.digest)
            }
            _ => Err(self.failure(&at, response, "upload").await),
        }
    }

    /// Puts the bytes of a blob where the registry said.
    async fn put_blob(
        &self,
        at: &At,
        url: Url,
        reach: Reach,
        size: u64,
        bytes: Upload,
    ) -> Result<Response, RemoteError> {
        let source = Source::default();
        let mut request = Request::new(Method::PUT, url);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        // Storage elsewhere has its credentials in the location.
        if same_origin(request.url(), &self.connection.origin)
            && let Some(authorization) = self.connection.accepted.find(&self.scope)
        {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        *request.body_mut() = Some(source.body(bytes, size));
        let result = self.connection.exchange(at, reach, request, &source.sent).await;
        match source.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(RemoteError::Source { at: at.clone(), source: error }),
            None => result,
        }
    }

    /// Returns how long to wait before a blob is put again, or `None` where the outcome is the last.
    fn wait_after_upload(&self, outcome: &Result<Response, RemoteError>, attempt: u32) -> Option<Duration> {
        match outcome {
            // It was given several times as long as a registry may keep silent.
            Err(RemoteError::Stalled { .. }) => None,
            // The token ended while the bytes were on their way: the next upload begins by asking for another one.
            Ok(response)
                if attempt == 0
                    && response.status() == StatusCode::UNAUTHORIZED
                    && same_origin(response.url(), &self.connection.origin) =>
            {
                self.connection.accepted.forget(&self.scope);
                Some(Duration::ZERO)
            }
            // The upload that was begun is forgotten: one of several servers began it, or it was started anew.
            Ok(response) if response.status() == StatusCode::NOT_FOUND => retry::wait(attempt, None),
            outcome => retry::wait_after(outcome, attempt),
        }
    }

    /// Begins an upload, and returns where its bytes are to be put, and how far inward that may be.
    async fn start_upload(&self, at: &At, digest: &Digest) -> Result<(Url, Reach), RemoteError> {
        let mut call = self.call(Method::POST, at.clone(), "blobs/uploads/")?;
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        let response = self.connection.call(&call).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.failure(at, response, "repository").await);
        }
        let (mut url, reach) = self.connection.leads_to(at, &call.url, &response)?;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        Ok((url, reach))
    }

    /// Uploads a manifest, by tag or (without one) by digest; where it has a subject and the registry does not say
    /// `OCI-Subject`, the fallback index is updated: read, appended to, written, and read again.
    ///
    /// # Errors
    /// Fails where the registry refuses it, names another digest, or has no proper index under the fallback tag.
    pub async fn push_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<(), RemoteError> {
        let (digest, media_type) = (manifest.digest(), manifest.media_type());
        let (at, reference) = match tag {
            Some(tag) => (self.at(&format!(":{tag}")), tag.to_string()),
            None => (self.at(&format!("@{digest}")), digest.to_string()),
        };
        let response = self.put_manifest(&at, &reference, media_type, manifest.raw().clone()).await?;
        confirm_digest(&at, response.headers(), digest)?;
        let Some(subject) = manifest.subject() else { return Ok(()) };
        let listed = response.headers().get(OCI_SUBJECT).and_then(|value| value.to_str().ok());
        if listed.and_then(|listed| listed.parse::<Digest>().ok()) == Some(subject.digest) {
            return Ok(());
        }
        self.list_under_fallback(manifest, &subject.digest).await
    }

    async fn put_manifest(
        &self,
        at: &At,
        reference: &str,
        media_type: &'static str,
        raw: Bytes,
    ) -> Result<Response, RemoteError> {
        let mut call = self.call(Method::PUT, at.clone(), &format!("manifests/{reference}"))?;
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        call.body = raw;
        let _permit = self.connection.admit(at, &call.method).await?;
        let response = self.connection.call(&call).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(response),
            _ => Err(self.failure(at, response, "repository").await),
        }
    }

    /// Lists a manifest in the index under its subject's fallback tag (distribution-spec, "Pushing Manifests with
    /// Subject").
    async fn list_under_fallback(&self, manifest: &Manifest, subject: &Digest) -> Result<(), RemoteError> {
        let Some(tag) = fallback_tag(subject) else { return Ok(()) };
        let at = self.at(&format!(":{tag}"));
        let _alone = self.connection.fallback.lock().await;
        for _ in 0..MAX_FALLBACK_WRITES {
            let index = self.manifest_by_tag(at.clone(), &tag).await?;
            if index
                .as_ref()
                .is_some_and(|index| index.children().iter().any(|child| child.digest == manifest.digest()))
            {
                return Ok(());
            }
            let raw = appended(&at, index.as_ref(), manifest)?;
            if raw.len() as u64 > MAX_MANIFEST_BYTES {
                return Err(RemoteError::TooLarge { at, limit: super::transport::in_words(MAX_MANIFEST_BYTES) });
            }
            let response = self.put_manifest(&at, tag.as_str(), OCI_INDEX, raw.clone()).await?;
            confirm_digest(&at, response.headers(), Digest::of(&raw))?;
        }
        let index = self.manifest_by_tag(at.clone(), &tag).await?;
        if index.is_some_and(|index| index.children().iter().any(|child| child.digest == manifest.digest())) {
            return Ok(());
        }
        Err(RemoteError::Malformed { at, why: "others keep overwriting this list of referrers".into() })
    }
}

/// Returns the bytes of a fallback index with one more entry, sorted by digest as cosign sorts it. What is there already is
/// kept as it is, unknown fields included.
fn appended(at: &At, index: Option<&Manifest>, manifest: &Manifest) -> Result<Bytes, RemoteError> {
    let malformed = |why: &str| RemoteError::Malformed { at: at.clone(), why: why.into() };
    let annotations: BTreeMap<String, String> = manifest.annotations().clone();
    let entry = ImageIndexEntry {
        media_type: manifest.media_type().into(),
        digest: manifest.digest().to_string(),
        size: i64::try_from(manifest.raw().len()).unwrap_or(i64::MAX),
        platform: None,
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        artifact_type: manifest.artifact_type().map(str::to_owned),
    };
    let bytes = match index {
        None => serde_json::to_vec(&OciImageIndex {
            schema_version: 2,
            media_type: Some(OCI_INDEX.into()),
            manifests: vec![entry],
            artifact_type: None,
            annotations: None,
        }),
        Some(index) if index.media_type() != OCI_INDEX => return Err(malformed("it is no OCI index")),
        Some(index) => serde_json::from_slice::<serde_json::Value>(index.raw()).and_then(|mut document| {
            let entry = serde_json::to_value(entry)?;
            if let Some(manifests) = document.get_mut("manifests").and_then(serde_json::Value::as_array_mut) {
                manifests.push(entry);
                let digest = |entry: &serde_json::Value| entry["digest"].as_str().unwrap_or_default().to_owned();
                manifests.sort_by_key(digest);
            }
            serde_json::to_vec(&document)
        }),
    };
    bytes.map(Bytes::from).map_err(|error| malformed(&error.to_string()))
}

/// The bytes of an upload on their way: how many were taken, and why there came no more.
#[derive(Default)]
struct Source {
    sent: Arc<AtomicU64>,
    /// The stream's own error, which the HTTP client would only report as a broken connection.
    failed: Arc<Mutex<Option<std::io::Error>>>,
}

impl Source {
    /// Returns a body of exactly `size` bytes; more or fewer are an error.
    fn body(&self, bytes: Upload, size: u64) -> Body {
        let (sent, failed) = (Arc::clone(&self.sent), Arc::clone(&self.failed));
        let fail = move |error: std::io::Error| {
            let broken = std::io::Error::from(error.kind());
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            broken
        };
        let end = futures_util::stream::once(std::future::ready(None));
        let counted = bytes.map(Some).chain(end).filter_map(move |item| {
            let taken = sent.load(Ordering::Relaxed);
            let result = match item {
                Some(Ok(chunk)) => {
                    let taken = taken.saturating_add(chunk.len() as u64);
                    sent.store(taken, Ordering::Relaxed);
                    if taken > size { Some(Err(wrong_length(taken, size))) } else { Some(Ok(chunk)) }
                }
                Some(Err(error)) => Some(Err(error)),
                None if taken < size => Some(Err(wrong_length(taken, size))),
                None => None,
            };
            std::future::ready(result.map(|result| result.map_err(&fail)))
        });
        Body::wrap_stream(counted)
    }
}

fn wrong_length(taken: u64, size: u64) -> std::io::Error {
    std::io::Error::other(format!("{taken} bytes came, the descriptor says {size}"))
}
