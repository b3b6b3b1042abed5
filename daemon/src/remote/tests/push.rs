//! Blobs and manifests written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{Method, Response};
use larder_core::manifest::{Manifest, OCI_INDEX, OCI_MANIFEST};
use larder_core::{Descriptor, Digest, Tag};

use super::upstream::{Seen, Upstream, answer, manifest};
use crate::config::RegistryConfig;
use crate::remote::{Access, Look, RemoteError, RemoteRepository};

fn for_writing(upstream: &Upstream) -> RemoteRepository {
    upstream.repository_as(Access::Push, RegistryConfig::default())
}

/// Pushes a blob that is read in these pieces, at each try anew.
async fn push(upstream: &Upstream, pieces: &[&'static str]) -> Result<(), RemoteError> {
    let read = || {
        let pieces = stream::iter(pieces.to_vec()).map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).boxed();
        async move { Ok(pieces) }.boxed()
    };
    for_writing(upstream).push_blob(&abcdef(), &read).await
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
    push(&upstream, &["abc", "def"]).await.expect("pushed");
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
    push(&upstream, &["abcdef"]).await.expect("pushed");
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
    push(&upstream, &["abcdef"]).await.expect("pushed");
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
        let error = push(&upstream, &["abcdef"]).await.expect_err(location);
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
    let error = push(&upstream, &["abcdef"]).await.expect_err("digest");
    assert!(matches!(error, RemoteError::DigestMismatch { .. }), "{error}");
    for (bytes, what) in [(&["abc"][..], "short"), (&["abcde", "fg"], "long")] {
        let upstream = accepting().await;
        let error = push(&upstream, bytes).await.expect_err(what);
        assert!(matches!(error, RemoteError::Source { .. }), "{what}: {error}");
        assert_eq!(upstream.lines().iter().filter(|line| line.starts_with("POST")).count(), 1, "no second try");
    }
    let upstream = accepting().await;
    let failing = || {
        let bytes = [Ok(Bytes::from_static(b"abc")), Err(std::io::Error::other("disk on fire"))];
        async { Ok(stream::iter(bytes).boxed()) }.boxed()
    };
    let error = for_writing(&upstream).push_blob(&abcdef(), &failing).await.expect_err("source");
    assert!(error.to_string().contains("disk on fire"), "{error}");
    let upstream = accepting().await;
    let unreadable = || async { Err(std::io::Error::other("no such disk")) }.boxed();
    let error = for_writing(&upstream).push_blob(&abcdef(), &unreadable).await.expect_err("source");
    assert!(error.to_string().contains("no such disk"), "{error}");

    let upstream = Upstream::start(|request, _| match request.method {
        Method::POST => answer(202, &[("location", "/up")], ""),
        _ => answer(400, &[], r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#),
    })
    .await;
    let error = push(&upstream, &["abcdef"]).await.expect_err("400");
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
    let upstream = Upstream::start(|_, _| answer(403, &[], "")).await;
    let error = push(&upstream, &["abcdef"]).await.expect_err("403");
    assert_eq!(error.reason(), "denied");
}

/// A registry that answers the first `PUT` of a blob's bytes in this way, and takes the second.
async fn failing_once(status: u16, headers: &'static [(&'static str, &'static str)]) -> Upstream {
    let puts = AtomicUsize::new(0);
    Upstream::start(move |request, before| match request.method {
        Method::POST => answer(202, &[("location", &format!("/up/{before}"))], ""),
        _ if puts.fetch_add(1, Ordering::SeqCst) == 0 => answer(status, headers, ""),
        _ => answer(201, &[], ""),
    })
    .await
}

#[tokio::test]
async fn an_upload_that_fails_for_a_moment_is_made_again_from_its_first_byte() {
    for status in [404, 408, 429, 500, 502, 503, 504] {
        let upstream = failing_once(status, &[("retry-after", "0")]).await;
        push(&upstream, &["abc", "def"]).await.expect("pushed");
        let lines = ["POST blobs/uploads/", "PUT /up/0", "POST blobs/uploads/", "PUT /up/2"];
        assert_eq!(upstream.lines(), lines, "{status}: an upload of its own");
        assert_eq!(upstream.seen()[3].body, "abcdef", "{status}");
    }
    // As long as it is told to wait, and no longer than anybody should.
    let upstream = failing_once(503, &[("retry-after", "1")]).await;
    let begun = Instant::now();
    push(&upstream, &["abcdef"]).await.expect("pushed");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let upstream = failing_once(429, &[("retry-after", "3600")]).await;
    let error = push(&upstream, &["abcdef"]).await.expect_err("an hour");
    assert_eq!((error.reason(), upstream.lines().len()), ("rate-limited", 2), "{error}");
    for (status, reason) in [(400, "registry-error"), (403, "denied"), (401, "unauthorized"), (413, "registry-error")] {
        let upstream = Upstream::start(move |request, _| match request.method {
            Method::POST => answer(202, &[("location", "/up")], ""),
            _ => answer(status, &[], ""),
        })
        .await;
        assert_eq!(push(&upstream, &["abcdef"]).await.expect_err("for good").reason(), reason);
        let tries = upstream.lines().iter().filter(|line| line.starts_with("PUT")).count();
        assert_eq!(tries, if status == 401 { 2 } else { 1 }, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_never_takes_an_upload_is_given_up() {
    let upstream = Upstream::start(|request, _| match request.method {
        Method::POST => answer(202, &[("location", "/up")], ""),
        _ => answer(503, &[("retry-after", "0")], ""),
    })
    .await;
    assert_eq!(push(&upstream, &["abcdef"]).await.expect_err("503").reason(), "registry-error");
    assert_eq!(upstream.lines().len(), 8, "four tries");
}

#[tokio::test]
async fn a_token_that_ends_while_bytes_are_under_way_is_renewed() {
    let given = AtomicUsize::new(0);
    let upstream = Upstream::start(move |request, _| {
        let current = format!("Bearer t{}", given.load(Ordering::SeqCst));
        match (request.path.as_str(), &request.method) {
            ("/token", _) => {
                let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                answer(200, &[], format!(r#"{{"token":"t{number}","expires_in":3600}}"#))
            }
            // The first token serves to begin, and not to end.
            (_, &Method::PUT) if current == "Bearer t1" => answer(401, &[], ""),
            (_, &Method::PUT) if request.header("authorization") == current => answer(201, &[], ""),
            (_, &Method::POST) if request.header("authorization") == current => answer(202, &[("location", "/up")], ""),
            _ => {
                let challenge = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
                answer(401, &[("www-authenticate", &challenge)], "")
            }
        }
    })
    .await;
    push(&upstream, &["abcdef"]).await.expect("pushed");
    let bodies: Vec<_> =
        upstream.seen().iter().filter(|seen| seen.method == Method::PUT).map(|seen| seen.body.clone()).collect();
    assert_eq!(bodies, ["abcdef", "abcdef"]);
    assert_eq!(upstream.lines().iter().filter(|line| *line == "GET /token").count(), 2);
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
    let digests: BTreeSet<_> = found.found.iter().map(|referrer| referrer.digest).collect();
    assert_eq!(digests, [one.digest(), other.digest()].into());
    let index =
        upstream.seen().into_iter().rfind(|request| request.path.ends_with(&tag) && request.method == Method::PUT);
    let index = String::from_utf8(index.expect("the last write").body.to_vec()).expect("text");
    for part in [r#""artifactType":"t/one""#, r#""artifactType":"t/other""#, r#""annotations":{"n":"one"}"#] {
        assert!(index.contains(part), "{index}");
    }
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
