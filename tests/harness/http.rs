//! A small blocking HTTP client, and the pushing of content by it.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use larder_core::Digest;
use larder_core::digest::{Algorithm, Hasher};
use larder_core::manifest::ACCEPTED;

use crate::block;
use crate::image::Content;

/// Speaks plain HTTP to one address. Follows nothing, retries nothing.
#[derive(Clone, Debug)]
pub struct Http {
    authority: String,
    headers: Vec<(String, String)>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Returns a header's text, empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Asserts the status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "HTTP status; body: {}", self.text());
        self
    }
}

impl Http {
    /// Speaks to `HOST:PORT`.
    pub fn new(authority: &str) -> Self {
        Self { authority: authority.to_owned(), headers: Vec::new() }
    }

    /// Sends a header with every request.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends a request; `Err` where the connection breaks before the answer is whole.
    pub fn try_send(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Answer, String> {
        let uri =
            if path.starts_with("http://") { path.to_owned() } else { format!("http://{}{path}", self.authority) };
        // As every client does: Debian's docker-registry hides an index from who does not ask for one.
        let mut request = Request::builder().method(method).uri(uri).header("accept", ACCEPTED.join(", "));
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        block(async {
            let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http::<Full<Bytes>>();
            let response = client.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        })
    }

    /// Sends a request.
    #[track_caller]
    pub fn send(&self, method: Method, path: &str, kind: &str, body: impl Into<Bytes>) -> Answer {
        self.try_send(method, path, kind, body.into()).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Gets, and hashes the body as it passes: status, length, SHA-256.
    #[track_caller]
    pub fn drain(&self, path: &str) -> (u16, u64, Digest) {
        let uri = format!("http://{}{path}", self.authority);
        let request = Request::get(uri).body(Full::new(Bytes::new())).expect("a request");
        block(async {
            let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
            let response = client.request(request).await.expect("an answer");
            let status = response.status().as_u16();
            let (mut length, mut hasher, mut body) = (0, Hasher::new(Algorithm::Sha256), response.into_body());
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.expect("the whole body").into_data() {
                    length += data.len() as u64;
                    hasher.update(&data);
                }
            }
            (status, length, hasher.finish())
        })
    }

    /// Uploads a blob of `length` bytes from chunks that are made as it goes.
    #[track_caller]
    pub fn stream_blob<I>(&self, repository: &str, digest: &Digest, length: u64, chunks: I) -> Answer
    where
        I: Iterator<Item = Bytes> + Send + Sync + 'static,
    {
        let begun = self.send(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), "", Bytes::new()).is(202);
        let place = begun.header("location").to_owned();
        let joint = if place.contains('?') { '&' } else { '?' };
        let place = format!("{place}{joint}digest={digest}");
        let uri = if place.starts_with("http://") { place } else { format!("http://{}{place}", self.authority) };
        let frames = futures_util::stream::iter(chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk))));
        let request =
            Request::put(uri).header("content-type", "application/octet-stream").header("content-length", length);
        let request = request.body(StreamBody::new(frames)).expect("a request");
        block(async {
            let client = Client::builder(TokioExecutor::new()).build_http();
            let (head, body) = client.request(request).await.expect("an answer").into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            Answer { status: head.status.as_u16(), headers: head.headers, body }
        })
    }

    /// Gets.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "", Bytes::new())
    }

    /// Asks for the headers only.
    #[track_caller]
    pub fn head(&self, path: &str) -> Answer {
        self.send(Method::HEAD, path, "", Bytes::new())
    }

    /// Gets a blob.
    #[track_caller]
    pub fn blob(&self, repository: &str, digest: &Digest) -> Answer {
        self.get(&format!("/v2/{repository}/blobs/{digest}"))
    }

    /// Gets a manifest by tag or digest.
    #[track_caller]
    pub fn manifest(&self, repository: &str, reference: &str) -> Answer {
        self.get(&format!("/v2/{repository}/manifests/{reference}"))
    }

    /// Uploads a blob under a digest, the right one or not.
    #[track_caller]
    pub fn put_blob(&self, repository: &str, digest: &Digest, bytes: Bytes) -> Answer {
        self.try_put_blob(repository, digest, bytes).unwrap_or_else(|error| panic!("{digest}: {error}"))
    }

    fn try_put_blob(&self, repository: &str, digest: &Digest, bytes: Bytes) -> Result<Answer, String> {
        let begun = self.try_send(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), "", Bytes::new())?;
        if begun.status != 202 {
            return Ok(begun);
        }
        let place = begun.header("location").to_owned();
        let joint = if place.contains('?') { '&' } else { '?' };
        self.try_send(Method::PUT, &format!("{place}{joint}digest={digest}"), "application/octet-stream", bytes)
    }

    /// Uploads a manifest by tag or digest.
    #[track_caller]
    pub fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: Bytes) -> Answer {
        self.send(Method::PUT, &format!("/v2/{repository}/manifests/{reference}"), media_type, bytes)
    }

    /// Pushes content and tags its root.
    #[track_caller]
    pub fn push(&self, repository: &str, tag: &str, content: &Content) {
        self.try_push(repository, Some(tag), content).unwrap_or_else(|error| panic!("{repository}:{tag}: {error}"));
    }

    /// Pushes content by digest only.
    #[track_caller]
    pub fn push_by_digest(&self, repository: &str, content: &Content) {
        self.try_push(repository, None, content).unwrap_or_else(|error| panic!("{repository}: {error}"));
    }

    /// Pushes content; `Err` where the connection breaks or something is refused.
    pub fn try_push(&self, repository: &str, tag: Option<&str>, content: &Content) -> Result<(), String> {
        let created = |answer: Answer| match answer.status {
            201 => Ok(()),
            status => Err(format!("{status} {}", answer.text())),
        };
        for blob in content.blobs() {
            let digest = Digest::of(blob);
            let path = format!("/v2/{repository}/blobs/{digest}");
            if self.try_send(Method::HEAD, &path, "", Bytes::new())?.status != 200 {
                created(self.try_put_blob(repository, &digest, blob.clone())?)?;
            }
        }
        let last = content.manifests().len().saturating_sub(1);
        for (place, manifest) in content.manifests().iter().enumerate() {
            let reference = match tag {
                Some(tag) if place == last => tag.to_owned(),
                _ => manifest.digest().to_string(),
            };
            let path = format!("/v2/{repository}/manifests/{reference}");
            created(self.try_send(Method::PUT, &path, &manifest.media_type, manifest.bytes.clone())?)?;
        }
        Ok(())
    }
}
