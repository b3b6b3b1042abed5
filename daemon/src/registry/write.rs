//! Renders what is written: uploads and manifests.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use larder_core::manifest::{MAX_MANIFEST_BYTES, ManifestError};
use larder_core::{Digest, Repository, Tag};

use super::errors::Failure;
use super::range::Chunk;
use super::read::{CONTENT_DIGEST, text};
use super::route::Query;
use crate::ops::Ctx;
use crate::ops::receive;
use crate::ops::receive::uploads::{Announced, Progress, UploadError, Uploads};
use crate::ops::serve::Named;
use crate::store::record::Actor;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// How many bytes of a manifest that is too long are read (and dropped), so that its client is still
/// there to see the answer instead of a connection that breaks while it writes.
const MAX_DRAINED: u64 = 64 << 20;
/// How long a manifest may take to arrive.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Begins an upload, takes a whole blob (`?digest=`), or takes one over from another repository (`?mount=&from=`).
pub(super) async fn begin(
    ctx: &Ctx,
    uploads: &Uploads,
    repository: &Repository,
    name: &str,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    if let (Some(mount), Some(from)) = (query.value("mount"), query.value("from")) {
        let digest = digest(mount)?;
        // What cannot be mounted is uploaded: every client falls back to that (distribution-spec, end-11).
        if let Ok(from) = query.repository(from)
            && receive::mount(ctx, uploads, &from, repository, digest).await
        {
            return Ok(created(name, digest));
        }
    } else if let Some(whole) = query.value("digest") {
        let digest = digest(whole)?;
        let stored = uploads.whole(ctx, repository, content_length(headers)?, chunks(body), digest).await?;
        return Ok(created(name, stored));
    }
    let progress = uploads.begin(ctx, repository).await?;
    Ok(underway(StatusCode::ACCEPTED, name, &progress))
}

/// Says how far an upload is.
pub(super) fn status(uploads: &Uploads, repository: &Repository, name: &str, id: &str) -> Result<Response, Failure> {
    Ok(underway(StatusCode::NO_CONTENT, name, &uploads.progress(repository, id)?))
}

/// Appends a chunk.
pub(super) async fn append(
    uploads: &Uploads,
    repository: &Repository,
    name: &str,
    id: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let appended = uploads.append(repository, id, announced(headers)?, chunks(body)).await;
    match appended {
        Ok(progress) => Ok(underway(StatusCode::ACCEPTED, name, &progress)),
        Err(error) => out_of_order(name, error),
    }
}

/// Ends an upload.
#[expect(clippy::too_many_arguments, reason = "each is a part of the request, named by its type")]
pub(super) async fn finish(
    ctx: &Ctx,
    uploads: &Uploads,
    repository: &Repository,
    name: &str,
    id: &str,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let digest = match query.value("digest") {
        Some(text) => digest(text)?,
        None => {
            return Err(Failure::new(
                StatusCode::BAD_REQUEST,
                "DIGEST_INVALID",
                "the blob's digest belongs in ?digest=",
            ));
        }
    };
    match uploads.finish(ctx, repository, id, announced(headers)?, chunks(body), digest).await {
        Ok(digest) => Ok(created(name, digest)),
        Err(error) => out_of_order(name, error),
    }
}

/// Drops an upload.
pub(super) fn cancel(uploads: &Uploads, repository: &Repository, id: &str) -> Result<Response, Failure> {
    uploads.cancel(repository, id)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Takes in a manifest.
pub(super) async fn manifest(
    ctx: &Ctx,
    actor: Actor,
    repository: &Repository,
    name: &str,
    named: &Named,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let announced =
        match headers.get(CONTENT_TYPE) {
            None => None,
            Some(value) => Some(value.to_str().map_err(|_| {
                Failure::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", "Content-Type is not readable")
            })?),
        };
    let raw = small_body(headers, body).await?;
    let received = receive::manifest(ctx, actor, repository, named, announced, raw).await?;
    let mut answer = empty(StatusCode::CREATED);
    let answer_headers = answer.headers_mut();
    answer_headers.insert(LOCATION, text(&format!("/v2/{name}/manifests/{}", received.digest)));
    answer_headers.insert(CONTENT_DIGEST, text(&received.digest.to_string()));
    if let Some(subject) = received.subject {
        answer_headers.insert(OCI_SUBJECT, text(&subject.to_string()));
    }
    Ok(answer)
}

/// Removes a tag.
pub(super) async fn remove_tag(
    ctx: &Ctx,
    actor: Actor,
    repository: &Repository,
    tag: &Tag,
) -> Result<Response, Failure> {
    receive::remove_tag(ctx, actor, repository, tag).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

async fn small_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
    let broken = |why: String| Failure::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", why);
    let announced = content_length(headers)?;
    let read = async {
        let mut chunks = chunks(body);
        let mut raw = BytesMut::new();
        let mut length: u64 = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|why| broken(format!("the manifest broke off: {why}")))?;
            length = length.saturating_add(chunk.len() as u64);
            if length > MAX_DRAINED {
                break;
            }
            if length.max(announced.unwrap_or_default()) <= MAX_MANIFEST_BYTES {
                raw.extend_from_slice(&chunk);
            }
        }
        let length = announced.unwrap_or_default().max(length);
        if length > MAX_MANIFEST_BYTES {
            return Err(Failure::too_large(ManifestError::TooLarge(length).to_string()));
        }
        Ok(raw.freeze())
    };
    match tokio::time::timeout(MANIFEST_TIMEOUT, read).await {
        Ok(read) => read,
        Err(_) => {
            let message = "the manifest took too long to arrive";
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "MANIFEST_INVALID", message))
        }
    }
}

fn chunks(body: Body) -> impl Stream<Item = Result<Bytes, String>> + Unpin {
    body.into_data_stream().map(|chunk| chunk.map_err(|error| error.to_string()))
}

fn digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error: larder_core::digest::DigestError| {
        Failure::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
    })
}

/// Reads where a chunk belongs and how long it is; the two headers must agree.
fn announced(headers: &HeaderMap) -> Result<Announced, Failure> {
    let invalid = |message: &str| Failure::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message);
    let length = content_length(headers)?;
    let Some(range) = headers.get(CONTENT_RANGE) else {
        return Ok(Announced { first: None, length });
    };
    let chunk = range.to_str().ok().and_then(Chunk::parse);
    let chunk = chunk.ok_or_else(|| invalid("Content-Range is FIRST-LAST, both included"))?;
    if length.is_some_and(|length| length != chunk.length) {
        return Err(invalid("Content-Range and Content-Length name different lengths"));
    }
    Ok(Announced { first: Some(chunk.first), length: Some(chunk.length) })
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length
        .map(Some)
        .ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", "Content-Length is not a number"))
}

/// A chunk out of order is answered with where the upload stands, so that the client can go on.
fn out_of_order(name: &str, error: UploadError) -> Result<Response, Failure> {
    let UploadError::OutOfOrder { progress, .. } = &error else { return Err(error.into()) };
    let standing = underway(StatusCode::RANGE_NOT_SATISFIABLE, name, progress);
    let mut answer = Failure::from(error).render(false);
    for header in [LOCATION, RANGE, UPLOAD_ID] {
        if let Some(value) = standing.headers().get(&header) {
            answer.headers_mut().insert(header, value.clone());
        }
    }
    Ok(answer)
}

fn underway(status: StatusCode, name: &str, progress: &Progress) -> Response {
    let mut answer = empty(status);
    let headers = answer.headers_mut();
    headers.insert(LOCATION, text(&format!("/v2/{name}/blobs/uploads/{}", progress.id)));
    // Both ends are included, so that none cannot be said; every registry writes 0-0 for it.
    headers.insert(RANGE, text(&format!("0-{}", progress.written.saturating_sub(1))));
    headers.insert(UPLOAD_ID, text(&progress.id));
    answer
}

fn created(name: &str, digest: Digest) -> Response {
    let mut answer = empty(StatusCode::CREATED);
    answer.headers_mut().insert(LOCATION, text(&format!("/v2/{name}/blobs/{digest}")));
    answer.headers_mut().insert(CONTENT_DIGEST, text(&digest.to_string()));
    answer
}

fn empty(status: StatusCode) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("value"))).collect()
    }

    #[test]
    fn where_a_chunk_belongs() {
        let both = headers(&[(CONTENT_RANGE, "10-19"), (CONTENT_LENGTH, "10")]);
        assert_eq!(announced(&both), Ok(Announced { first: Some(10), length: Some(10) }));
        assert_eq!(announced(&HeaderMap::new()), Ok(Announced::default()));
        for wrong in [
            headers(&[(CONTENT_RANGE, "10-19"), (CONTENT_LENGTH, "11")]),
            headers(&[(CONTENT_RANGE, "19-10")]),
            headers(&[(CONTENT_LENGTH, "-1")]),
        ] {
            assert_eq!(announced(&wrong).expect_err("wrong").code, "SIZE_INVALID");
        }
    }

    #[test]
    fn out_of_order_says_where_the_upload_stands() {
        let progress = Progress { id: "7".into(), written: 5 };
        let answer = out_of_order("x/y", UploadError::OutOfOrder { first: 9, progress }).expect("an answer");
        assert_eq!(answer.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(answer.headers()[RANGE], "0-4");
        assert_eq!(answer.headers()[LOCATION], "/v2/x/y/blobs/uploads/7");
        assert!(out_of_order("x", UploadError::TooMany).is_err());
    }

    #[tokio::test]
    async fn a_manifest_is_bounded_whatever_it_announces() {
        let limit = usize::try_from(MAX_MANIFEST_BYTES).expect("fits");
        let full = small_body(&HeaderMap::new(), Body::from(vec![b' '; limit])).await.expect("just fits");
        assert_eq!(full.len(), limit);
        let error = small_body(&HeaderMap::new(), Body::from(vec![b' '; limit + 1])).await.expect_err("too long");
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
        let announced = headers(&[(CONTENT_LENGTH, "4194305")]);
        let error = small_body(&announced, Body::empty()).await.expect_err("too long");
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
