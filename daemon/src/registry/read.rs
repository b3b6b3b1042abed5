//! Renders what is read: manifests, blobs, tags, referrers.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, LINK, RANGE, WARNING,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use larder_core::manifest::OCI_INDEX;
use larder_core::{Digest, Repository};
use serde_json::{Value, json};

use super::errors::Failure;
use super::outlet::Spans;
use super::range::Part;
use super::route::{Query, encode};
use super::stream::Slices;
use crate::ops::receive::uploads::Uploads;
use crate::ops::serve::gate::Decision;
use crate::ops::serve::{self, Blob, Named, ServeError, Served};
use crate::ops::{Ctx, catalog, receive};

/// `Docker-Content-Digest`, what the bytes are.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// `OCI-Filters-Applied`, by what a list of referrers was filtered.
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// The most characters of a warning.
const MAX_WARNING: usize = 600;

/// Answers with a manifest.
pub(super) async fn manifest(
    ctx: &Ctx,
    repository: &Repository,
    named: &Named,
    headers: &HeaderMap,
    head: bool,
) -> Result<Response, Failure> {
    let served = serve::manifest(ctx, repository, named).await?;
    let manifest = served.value;
    let mut answer = content(manifest.digest(), HeaderValue::from_static(manifest.media_type()), served.warning);
    if is_known(headers, &etag(manifest.digest())) {
        return Ok(not_modified(answer));
    }
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(manifest.raw().len()));
    if !head {
        *answer.body_mut() = Body::from(manifest.raw().clone());
    }
    Ok(answer)
}

/// Answers with a blob, or the part of it that is asked for; without `spans`, to HEAD.
pub(super) async fn blob(
    ctx: &Ctx,
    uploads: &Uploads,
    repository: &Repository,
    digest: Digest,
    headers: &HeaderMap,
    spans: Option<&Spans>,
) -> Result<Response, Failure> {
    let head = spans.is_none();
    let served = match serve::blob(ctx, repository, digest).await {
        Err(unknown @ ServeError::BlobUnknown { .. }) => {
            match receive::uploaded(ctx, uploads, repository, digest).await {
                None => return Err(unknown.into()),
                Some(Decision::Refuse | Decision::Retry) => {
                    return Err(if head { unknown.into() } else { Failure::unlisted(digest) });
                }
                Some(decision) => {
                    let (file, length) = ctx.store.open_blob(&digest).await?;
                    let warning = (decision == Decision::Warn).then(|| format!("no manifest lists {digest} yet"));
                    Served { value: Blob { file, length }, warning }
                }
            }
        }
        // To a client that asks whether the blob is there, one that is held back is not: it uploads it, or does without.
        Err(ServeError::Refused { .. } | ServeError::NotEvidence { .. }) if head => {
            return Err(ServeError::BlobUnknown { repository: repository.clone(), digest }.into());
        }
        served => served?,
    };
    let (file, length) = (served.value.file, served.value.length);
    let octets = HeaderValue::from_static("application/octet-stream");
    let mut answer = content(digest, octets, served.warning);
    if is_known(headers, &etag(digest)) {
        return Ok(not_modified(answer));
    }
    answer.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let asked = headers.get(RANGE).filter(|_| match headers.get(IF_RANGE) {
        Some(only_if) => only_if == etag(digest).as_str(),
        None => true,
    });
    let part = Part::parse(asked.and_then(|value| value.to_str().ok()), length);
    let (first, count) = match part {
        Part::Whole => (0, length),
        Part::Slice { first, last } => {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{last}/{length}");
            answer.headers_mut().insert(CONTENT_RANGE, text(&range));
            (first, last.saturating_sub(first).saturating_add(1))
        }
        Part::Unsatisfiable => {
            let message = format!("{digest} has {length} bytes; none of them is in the range");
            return Err(Failure {
                header: Some((CONTENT_RANGE, text(&format!("bytes */{length}")))),
                ..Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message)
            });
        }
    };
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(count));
    if let Some(spans) = spans {
        let file = file.into_std().await;
        *answer.body_mut() = Body::from_stream(Slices::new(file, first, count, spans.clone()));
    }
    Ok(answer)
}

/// Answers with a page of repositories, by the names under which they are served here; `Link` names the next one.
pub(super) async fn catalog(ctx: &Ctx, query: &Query) -> Result<Response, Failure> {
    let limit = page_length(query)?;
    let last = query.value("last").filter(|last| !last.is_empty()).map(Repository::from_endpoint_path).transpose();
    let last = last.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, "NAME_INVALID", error.to_string()))?;
    let page = catalog::repositories(ctx, last.as_ref(), limit).await?;
    let listed: Vec<String> = page.repositories.iter().map(Repository::endpoint_path).collect();
    let mut answer = json_answer("application/json", &json!({ "repositories": listed }));
    if let Some(last) = listed.last().filter(|_| page.more) {
        let next = format!("</v2/_catalog?n={}&last={}>; rel=\"next\"", listed.len(), encode(last));
        answer.headers_mut().insert(LINK, text(&next));
    }
    Ok(answer)
}

/// Reads `n`, the most that a page may list.
fn page_length(query: &Query) -> Result<Option<usize>, Failure> {
    let Some(n) = query.value("n") else { return Ok(None) };
    let n = n.parse::<u32>().map_err(|_| {
        Failure::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is how many a page may list, a number")
    })?;
    Ok(Some(usize::try_from(n).unwrap_or(usize::MAX)))
}

/// Answers with a page of tags; `Link` names the next one.
pub(super) async fn tags(ctx: &Ctx, repository: &Repository, name: &str, query: &Query) -> Result<Response, Failure> {
    let limit = page_length(query)?;
    let page = serve::tags(ctx, repository, query.value("last").filter(|last| !last.is_empty()), limit).await?;
    let listed: Vec<&str> = page.tags.iter().map(|tag| tag.as_str()).collect();
    let mut answer = json_answer("application/json", &json!({ "name": name, "tags": listed }));
    if let Some(last) = page.tags.last().filter(|_| page.more) {
        let next = format!("</v2/{name}/tags/list?n={}&last={}>; rel=\"next\"", page.tags.len(), encode(last.as_str()));
        answer.headers_mut().insert(LINK, text(&next));
    }
    Ok(answer)
}

/// Answers with a page of referrers, as an image index.
pub(super) async fn referrers(
    ctx: &Ctx,
    repository: &Repository,
    name: &str,
    subject: Digest,
    query: &Query,
) -> Result<Response, Failure> {
    let artifact_type = query.value("artifactType").filter(|wanted| !wanted.is_empty());
    let after = query.value("last").map(str::parse::<Digest>).transpose();
    let after = after.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string()))?;
    let page = serve::referrers(ctx, repository, subject, artifact_type, after).await?;
    let manifests: Vec<Value> = page.referrers.iter().map(|referrer| descriptor(&referrer.descriptor)).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    let mut answer = json_answer(OCI_INDEX, &index);
    if artifact_type.is_some() {
        answer.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(next) = page.next {
        let filter = artifact_type.map(|wanted| format!("&artifactType={}", encode(wanted))).unwrap_or_default();
        let next = format!("</v2/{name}/referrers/{subject}?last={}{filter}>; rel=\"next\"", encode(&next.to_string()));
        answer.headers_mut().insert(LINK, text(&next));
    }
    Ok(answer)
}

fn descriptor(descriptor: &larder_core::Descriptor) -> Value {
    let mut value = json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    });
    if let Some(artifact_type) = &descriptor.artifact_type {
        value["artifactType"] = json!(artifact_type);
    }
    if !descriptor.annotations.is_empty() {
        value["annotations"] = json!(descriptor.annotations);
    }
    value
}

fn json_answer(media_type: &'static str, value: &Value) -> Response {
    let bytes = value.to_string();
    let mut answer = Response::new(Body::empty());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    *answer.body_mut() = Body::from(bytes);
    answer
}

/// The headers of content that is addressed by its digest.
fn content(digest: Digest, media_type: HeaderValue, warning: Option<String>) -> Response {
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CONTENT_DIGEST, text(&digest.to_string()));
    headers.insert(ETAG, text(&etag(digest)));
    if let Some(warning) = warning {
        headers.insert(WARNING, text(&warning_text(&warning)));
    }
    answer
}

fn etag(digest: Digest) -> String {
    format!("\"{digest}\"")
}

fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == etag))
}

fn not_modified(mut answer: Response) -> Response {
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer.headers_mut().remove(CONTENT_TYPE);
    answer
}

/// The value of `Warning` (RFC 7234 section 5.5): a quoted string of plain characters.
fn warning_text(warning: &str) -> String {
    let plain = |character: char| match character {
        '"' | '\\' => '\'',
        character if character.is_ascii_graphic() || character == ' ' => character,
        _ => '?',
    };
    let quoted: String = warning.chars().take(MAX_WARNING).map(plain).collect();
    format!("299 larder \"{quoted}\"")
}

/// A header's value from text of ours, which has no control characters.
pub(super) fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_quoted_line() {
        assert_eq!(warning_text("a \"b\"\r\nc: é"), "299 larder \"a 'b'??c: ?\"");
        assert!(HeaderValue::from_str(&warning_text("x\u{7f}\0\n")).is_ok());
        assert!(warning_text(&"x".repeat(5000)).len() < 700);
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let etag = etag(Digest::of(b"x"));
        let headers =
            |value: &str| HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_str(value).expect("value"))]);
        assert!(is_known(&headers(&etag), &etag));
        assert!(is_known(&headers(&format!("\"a\", W/{etag}")), &etag));
        assert!(!is_known(&headers("\"a\""), &etag));
        assert!(!is_known(&HeaderMap::new(), &etag));
    }
}
