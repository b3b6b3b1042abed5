//! Requests at an OCI endpoint, as any tool makes them (OCI distribution spec 1.1).

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::image::{Image, MANIFEST, name_of};
use super::stage::AFTERWARDS;
use crate::error::Error;

/// What an image's manifest may be.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// The largest manifest or error that is read.
const MAX_DOCUMENT: usize = 4 << 20;
/// How much of a file is sent at once.
const CHUNK: usize = 256 << 10;
/// How long an answer may be silent; the endpoint is on this machine.
const SILENCE: Duration = Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What came of asking for a blob.
#[derive(Debug)]
pub(super) struct BlobAnswer {
    pub(super) status: u16,
    /// Of the bytes that came; empty where they were an error.
    pub(super) digest: String,
    /// The error's message; empty where there was none.
    pub(super) message: String,
}

/// Writes an image: blobs first, then the manifest under its tag.
///
/// # Errors
/// Fails where the endpoint refuses.
pub(super) async fn push(endpoint: &str, repository: &str, tag: &str, image: &Image) -> Result<(), Error> {
    let config = &image.config;
    upload(endpoint, repository, &config.digest, config.bytes.len() as u64, full(config.bytes.clone())).await?;
    let layer = &image.layer;
    upload(endpoint, repository, &layer.digest, layer.size, file(&layer.path).await?).await?;
    let request = Request::put(format!("http://{endpoint}/v2/{repository}/manifests/{tag}"))
        .header(CONTENT_TYPE, MANIFEST)
        .body(full(image.manifest.bytes.clone()));
    expect(201, "the manifest", send(request).await?).await
}

async fn upload(endpoint: &str, repository: &str, digest: &str, size: u64, body: Body) -> Result<(), Error> {
    let begin = Request::post(format!("http://{endpoint}/v2/{repository}/blobs/uploads/")).body(full(Vec::new()));
    let begun = send(begin).await?;
    let location = begun.headers().get(LOCATION).and_then(|location| location.to_str().ok()).map(ToOwned::to_owned);
    expect(202, "an upload", begun).await?;
    let location = location.ok_or_else(|| failed("the endpoint names no place to upload to"))?;
    let place = if location.starts_with('/') { format!("http://{endpoint}{location}") } else { location };
    let separator = if place.contains('?') { '&' } else { '?' };
    let request = Request::put(format!("{place}{separator}digest={digest}"))
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, size)
        .body(body);
    expect(201, digest, send(request).await?).await
}

/// Reads a manifest.
///
/// # Errors
/// Fails where the endpoint refuses.
pub(super) async fn manifest(endpoint: &str, repository: &str, tag: &str) -> Result<Vec<u8>, Error> {
    let request = Request::get(format!("http://{endpoint}/v2/{repository}/manifests/{tag}"))
        .header(ACCEPT, MANIFESTS)
        .body(full(Vec::new()));
    let answer = send(request).await?;
    if answer.status() != 200 {
        return expect(200, "the manifest", answer).await.map(|()| Vec::new());
    }
    document(answer).await
}

/// Reads a blob and hashes it.
///
/// # Errors
/// Fails where the endpoint does not answer; a refusal is an answer.
pub(super) async fn blob(endpoint: &str, repository: &str, digest: &str) -> Result<BlobAnswer, Error> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("http://{endpoint}/v2/{repository}/blobs/{digest}"))
        .body(full(Vec::new()));
    let mut answer = send(request).await?;
    let status = answer.status().as_u16();
    if status != 200 {
        let message = message_in(&document(answer).await?);
        return Ok(BlobAnswer { status, digest: String::new(), message });
    }
    let mut hash = Sha256::new();
    while let Some(frame) = within(answer.frame()).await? {
        if let Ok(bytes) = frame.map_err(|error| broken(&error))?.into_data() {
            hash.update(&bytes);
        }
    }
    Ok(BlobAnswer { status, digest: name_of(hash.finalize().as_slice()), message: String::new() })
}

async fn send(request: Result<Request<Body>, http::Error>) -> Result<Response<Incoming>, Error> {
    let request = request.map_err(|error| broken(&error))?;
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    within(client.request(request)).await?.map_err(|error| broken(&error))
}

async fn within<T>(answer: impl Future<Output = T>) -> Result<T, Error> {
    let silent = |_| failed(format!("the endpoint was silent for {} s", SILENCE.as_secs()));
    tokio::time::timeout(SILENCE, answer).await.map_err(silent)
}

fn failed(message: impl Into<String>) -> Error {
    Error::new("endpoint", message).hint(AFTERWARDS)
}

fn broken(error: &dyn std::error::Error) -> Error {
    failed(format!("the endpoint cannot be asked: {error}"))
}

async fn expect(status: u16, what: &str, answer: Response<Incoming>) -> Result<(), Error> {
    let answered = answer.status().as_u16();
    let body = document(answer).await?;
    if answered == status {
        return Ok(());
    }
    let message = format!("the endpoint answered {answered} and not {status} to {what}: {}", message_in(&body));
    Err(failed(message))
}

async fn document(answer: Response<Incoming>) -> Result<Vec<u8>, Error> {
    let collected = within(Limited::new(answer.into_body(), MAX_DOCUMENT).collect()).await?;
    let bytes = collected.map_err(|error| failed(format!("the endpoint's answer broke off: {error}")))?;
    Ok(bytes.to_bytes().to_vec())
}

/// Returns the message of a registry's error.
fn message_in(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    match value["errors"][0]["message"].as_str() {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

async fn file(path: &Path) -> Result<Body, Error> {
    let file = tokio::fs::File::open(path).await;
    let file = file.map_err(|error| Error::file(&path.display().to_string(), &error))?;
    let frames = stream::try_unfold(file, |mut file| async move {
        let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
        let read = file.read_buf(&mut chunk).await?;
        Ok((read > 0).then(|| (Frame::data(chunk.freeze()), file)))
    });
    Ok(StreamBody::new(frames).boxed_unsync())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_error_is_its_message() {
        let body = br#"{"errors":[{"code":"DENIED","message":"it is untrusted"}]}"#;
        assert_eq!(message_in(body), "it is untrusted");
        assert_eq!(message_in(b" plain\n"), "plain");
    }
}
