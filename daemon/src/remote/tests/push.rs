//! Blobs and manifests written.

use std::collections::BTreeMap;
use std::sync::Mutex;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Response};
use larder_core::manifest::{Manifest, OCI_INDEX, OCI_MANIFEST};
use larder_core::{Descriptor, Digest, Tag};

use super::upstream::{Seen, Upstream, answer, manifest};
use crate::config::RegistryConfig;
use crate::remote::{Access, Look, RemoteError, RemoteRepository};

fn for_writing(upstream: &Upstream) -> RemoteRepository {
    upstream.repository_as(Access::Push, RegistryConfig::default())
}

fn pieces(pieces: &[&'static str]) -> stream::BoxStream<'static, std::io::Result<Bytes>> {
    stream::iter(pieces.to_vec()).map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).boxed()
}

fn abcdef() -> Descriptor {
    Descriptor::new("layer", Digest::of(b"abcdef"), 6)
}

#[tokio::test]
async fn a_blob_is_uploaded_in_one_piece() {
    let upstream = Upstream::start(|request, _| match request.method {
        Method::POST => answer(202, &[("location", "/v2/a/b/blobs/uploads/7?state=x%2Fy")], ""),
        _ => answer(201, &[("docker-content-digest", &Digest::of(b"abcdef").to_string())], ""),
    })
    .await;
    for_writing(&upstream).push_blob(&abcdef(), pieces(&["abc", "def"])).await.expect("pushed");
    assert_eq!(upstream.lines(), ["POST blobs/uploads/", "PUT blobs/uploads/7"]);
    let put = &upstream.seen()[1];
    assert_eq!(put.body, "abcdef");
    assert_eq!((put.header("content-length"), put.header("transfer-encoding")), ("6", ""));
    let digest = Digest::of(b"abcdef").to_string().replace(':', "%3A");
    assert_eq!(put.query, format!("state=x%2Fy&digest={digest}"));
    assert_eq!(upstream.seen()[0].header("content-length"), "0");
}

#[tokio::test]
async fn an_upload_asks_for_a_token_to_write_before_its_bytes_leave() {
    let upstream = Upstream::start(|request, _| match (request.path.as_str(), request.header("authorization")) {
        ("/token", _) if request.query.contains("pull%2Cpush") => answer(200, &[], r#"{"token":"w"}"#),
        ("/token", _) => answer(403, &[], ""),
        (_, "Bearer w") if request.method == Method::POST => answer(202, &[("location", "uploads/7")], ""),
        (_, "Bearer w") => answer(201, &[], ""),
        _ => {
            let challenge = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
            answer(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await;
    for_writing(&upstream).push_blob(&abcdef(), pieces(&["abcdef"])).await.expect("pushed");
    assert_eq!(
        upstream.lines(),
        ["POST blobs/uploads/", "GET /token", "POST blobs/uploads/", "PUT blobs/uploads/uploads/7"]
    );
}

#[tokio::test]
async fn storage_elsewhere_gets_no_credentials() {
    let storage = Upstream::start(|_, _| answer(201, &[], "")).await;
    let location = format!("http://{}/put", storage.address);
    let upstream = Upstream::start(move |request, _| match (request.path.as_str(), request.header("authorization")) {
        ("/token", _) => answer(200, &[], r#"{"token":"w"}"#),
        (_, "Bearer w") => answer(202, &[("location", &location)], ""),
        _ => {
            let challenge = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
            answer(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await;
    for_writing(&upstream).push_blob(&abcdef(), pieces(&["abcdef"])).await.expect("pushed");
    assert_eq!((storage.seen().len(), storage.seen()[0].header("authorization")), (1, ""));
}

#[tokio::test]
async fn upload_locations_are_checked() {
    for (location, reason) in [
        ("https://169.254.169.254/", "refused-address"),
        ("http://10.0.0.1/", "plain-http"),
        ("ftp://x/", "refused-redirect"),
        ("", "refused-redirect"),
    ] {
        let headers = if location.is_empty() { vec![] } else { vec![("location", location)] };
        let upstream = Upstream::start(move |_, _| answer(202, &headers, "")).await;
        let error = for_writing(&upstream).push_blob(&abcdef(), pieces(&["abcdef"])).await.expect_err(location);
        assert_eq!(error.reason(), reason, "{location}: {error}");
    }
}

#[tokio::test]
async fn uploads_that_go_wrong() {
    let accepting = || {
        Upstream::start(|request, _| match request.method {
            Method::POST => answer(202, &[("location", "/up")], ""),
            _ => answer(201, &[("docker-content-digest", &Digest::of(b"other").to_string())], ""),
        })
    };
    let upstream = accepting().await;
    let error = for_writing(&upstream).push_blob(&abcdef(), pieces(&["abcdef"])).await.expect_err("digest");
    assert!(matches!(error, RemoteError::DigestMismatch { .. }), "{error}");
    for (bytes, what) in [(pieces(&["abc"]), "short"), (pieces(&["abcde", "fg"]), "long")] {
        let upstream = accepting().await;
        let error = for_writing(&upstream).push_blob(&abcdef(), bytes).await.expect_err(what);
        assert!(matches!(error, RemoteError::Source { .. }), "{what}: {error}");
    }
    let upstream = accepting().await;
    let failing = stream::iter([Ok(Bytes::from_static(b"abc")), Err(std::io::Error::other("disk on fire"))]).boxed();
    let error = for_writing(&upstream).push_blob(&abcdef(), failing).await.expect_err("source");
    assert!(error.to_string().contains("disk on fire"), "{error}");

    let upstream = Upstream::start(|request, _| match request.method {
        Method::POST => answer(202, &[("location", "/up")], ""),
        _ => answer(400, &[], r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#),
    })
    .await;
    let error = for_writing(&upstream).push_blob(&abcdef(), pieces(&["abcdef"])).await.expect_err("400");
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
    let upstream = Upstream::start(|_, _| answer(403, &[], "")).await;
    let error = for_writing(&upstream).push_blob(&abcdef(), pieces(&["abcdef"])).await.expect_err("403");
    assert_eq!(error.reason(), "denied");
}

/// A registry that keeps manifests, with the referrers API or without it.
async fn keeping(api: bool) -> Upstream {
    let kept: Mutex<BTreeMap<String, (String, Bytes)>> = Mutex::default();
    let serve = move |request: &Seen| -> Response<Body> {
        let mut kept = kept.lock().expect("kept");
        let reference = request.path.rsplit('/').next().unwrap_or_default().to_owned();
        if request.method != Method::PUT {
            return match kept.get(&reference) {
                Some((media_type, raw)) => answer(200, &[("content-type", media_type)], raw.clone()),
                None => answer(404, &[], ""),
            };
        }
        let subject = Manifest::parse(request.body.clone(), None).expect("manifest");
        let subject = subject.subject().map(|subject| subject.digest.to_string());
        kept.insert(reference, (request.header("content-type").to_owned(), request.body.clone()));
        match subject {
            Some(subject) if api => answer(201, &[("oci-subject", &subject)], ""),
            _ => answer(201, &[], ""),
        }
    };
    Upstream::start(move |request, _| serve(request)).await
}

/// A manifest that refers to the digest of `subject`; `name` tells it from others.
fn referrer(name: &str) -> Manifest {
    manifest(&format!(
        r#","subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":7}},"artifactType":"t/{name}","annotations":{{"n":"{name}"}}"#,
        Digest::of(b"subject")
    ))
}

#[tokio::test]
async fn a_manifest_is_pushed_by_tag_or_digest() {
    let upstream = keeping(true).await;
    let repository = for_writing(&upstream);
    let tag: Tag = "v1".parse().expect("tag");
    repository.push_manifest(&manifest(""), Some(&tag)).await.expect("tag");
    repository.push_manifest(&manifest(""), None).await.expect("digest");
    repository.push_manifest(&referrer("a"), None).await.expect("referrer");
    let digest = |manifest: Manifest| format!("PUT manifests/{}", manifest.digest());
    assert_eq!(upstream.lines(), ["PUT manifests/v1".into(), digest(manifest("")), digest(referrer("a"))]);
    assert_eq!(upstream.seen()[0].header("content-type"), OCI_MANIFEST);
    assert_eq!(upstream.seen()[0].body, manifest("").raw());
}

#[tokio::test]
async fn without_the_api_the_fallback_index_is_kept() {
    let upstream = keeping(false).await;
    let repository = for_writing(&upstream);
    let (one, other) = (referrer("one"), referrer("other"));
    let both = tokio::join!(repository.push_manifest(&one, None), repository.push_manifest(&other, None));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    repository.push_manifest(&one, None).await.expect("again");
    let tag = format!("sha256-{}", Digest::of(b"subject").hex());
    let writes = upstream.lines().iter().filter(|line| **line == format!("PUT manifests/{tag}")).count();
    assert_eq!(writes, 2, "the third push has nothing to add");
    let found = Look::new(repository, 1).referrers(&Digest::of(b"subject")).await.expect("referrers");
    let mut types: Vec<_> =
        found.descriptors.iter().map(|found| found.artifact_type.clone().unwrap_or_default()).collect();
    types.sort();
    assert_eq!(types, ["t/one", "t/other"]);
    assert!(found.descriptors.iter().any(|found| found.annotations.get("n").is_some_and(|n| n == "one")));
    assert!(!found.api);
}

#[tokio::test]
async fn what_a_fallback_index_holds_already_is_kept() {
    let old = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","odd":[1],"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":3,"odder":true}}]}}"#,
        Digest::of(b"old")
    );
    let writes: Mutex<Option<Bytes>> = Mutex::default();
    let upstream = Upstream::start(move |request, _| {
        let mut writes = writes.lock().expect("writes");
        match (&request.method, request.path.contains("/sha256-")) {
            (&Method::PUT, true) => *writes = Some(request.body.clone()),
            (&Method::PUT, false) => {}
            _ => {
                let body = writes.clone().unwrap_or_else(|| old.clone().into());
                return answer(200, &[("content-type", OCI_INDEX)], body);
            }
        }
        answer(201, &[], "")
    })
    .await;
    for_writing(&upstream).push_manifest(&referrer("new"), None).await.expect("pushed");
    let written = upstream.seen().into_iter().rfind(|seen| seen.method == Method::PUT).expect("written");
    let text = String::from_utf8(written.body.to_vec()).expect("text");
    assert!(text.contains(r#""odd":[1]"#) && text.contains(r#""odder":true"#), "{text}");
    assert!(text.contains(&referrer("new").digest().to_string()), "{text}");
}

#[tokio::test]
async fn a_fallback_index_that_is_lost_or_is_none_is_an_error() {
    // A registry that forgets the index at once.
    let upstream = Upstream::start(|request, _| match request.method {
        Method::PUT => answer(201, &[], ""),
        _ => answer(404, &[], ""),
    })
    .await;
    let error = for_writing(&upstream).push_manifest(&referrer("a"), None).await.expect_err("lost");
    assert!(matches!(error, RemoteError::Malformed { .. }), "{error}");
    let upstream = Upstream::start(|request, _| match request.method {
        Method::PUT => answer(201, &[], ""),
        _ => answer(200, &[], manifest("").raw().clone()),
    })
    .await;
    let error = for_writing(&upstream).push_manifest(&referrer("a"), None).await.expect_err("image");
    assert!(matches!(error, RemoteError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_that_names_another_digest_is_not_believed() {
    let upstream =
        Upstream::start(|_, _| answer(201, &[("docker-content-digest", &Digest::of(b"other").to_string())], "")).await;
    let error = for_writing(&upstream).push_manifest(&manifest(""), None).await.expect_err("digest");
    assert!(matches!(error, RemoteError::DigestMismatch { .. }), "{error}");
}
