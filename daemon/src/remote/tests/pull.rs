//! Manifests, blobs, tags and referrers read.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use larder_core::manifest::{MAX_MANIFEST_BYTES, OCI_INDEX, OCI_MANIFEST};
use larder_core::{Descriptor, Digest, Tag};

use super::upstream::{Upstream, answer, broken, manifest};
use crate::config::RegistriesConfig;
use crate::remote::{Look, RemoteError, RemoteRepository, Tags};

const DIGEST: &str = "docker-content-digest";

fn look(upstream: &Upstream, references: usize) -> Look {
    Look::new(upstream.repository(), references)
}

fn latest() -> Tag {
    Tag::latest()
}

#[tokio::test]
async fn a_tag_is_resolved_by_head() {
    let digest = manifest("").digest();
    let named = digest.to_string();
    let upstream = Upstream::start(move |_, _| answer(200, &[(DIGEST, &named)], "")).await;
    let resolved = upstream.repository().resolve(&latest()).await.expect("answer").expect("there");
    assert_eq!((resolved.digest, resolved.manifest), (digest, None));
    assert_eq!(upstream.lines(), ["HEAD manifests/latest"]);
    assert!(upstream.seen()[0].header("accept").contains(OCI_INDEX));
}

#[tokio::test]
async fn a_head_without_digest_is_followed_by_a_get() {
    for head in [200, 405] {
        let raw = manifest("").raw().clone();
        let upstream = Upstream::start(move |request, _| match request.method {
            http::Method::HEAD => answer(head, &[(DIGEST, "md5:zz")], ""),
            _ => answer(200, &[("content-type", OCI_MANIFEST)], raw.clone()),
        })
        .await;
        let resolved = upstream.repository().resolve(&latest()).await.expect("answer").expect("there");
        assert_eq!((resolved.digest, resolved.manifest), (manifest("").digest(), Some(manifest(""))));
    }
}

#[tokio::test]
async fn a_length_that_head_gets_wrong_is_not_looked_at() {
    let digest = manifest("").digest();
    let named = digest.to_string();
    for length in ["0", "7", "99999999999"] {
        let named = named.clone();
        let headers = move || [(DIGEST, named.clone()), ("content-length", length.to_owned())];
        let upstream = Upstream::start(move |_, _| {
            let headers = headers();
            answer(200, &headers.each_ref().map(|(name, value)| (*name, value.as_str())), "")
        })
        .await;
        let repository = upstream.repository();
        for _ in 0..2 {
            let resolved = repository.resolve(&latest()).await.expect("answer").expect("there");
            assert_eq!(resolved.digest, digest, "{length}");
        }
    }
}

#[tokio::test]
async fn requests_can_be_made_by_tasks() {
    let upstream = Upstream::start(|_, _| answer(404, &[], "")).await;
    let repository = upstream.repository();
    let task = tokio::spawn(async move {
        let digest = Digest::of(b"x");
        let nothing = || async { Ok(futures_util::stream::empty().boxed()) }.boxed();
        let pushed = repository.push_blob(&Descriptor::new("l", digest, 0), &nothing).await;
        let manifest = repository.push_manifest(&manifest(""), None).await;
        let blob = repository.small_blob(&Descriptor::new("l", digest, 0), 9).await;
        (pushed.is_err(), manifest.is_err(), blob.is_err(), Look::new(repository, 1).referrers(&digest).await.is_ok())
    });
    assert_eq!(task.await.expect("task"), (true, true, true, true));
}

#[tokio::test]
async fn what_is_not_there_is_none_only_by_404() {
    let upstream = Upstream::start(|_, _| answer(404, &[], "")).await;
    let repository = upstream.repository();
    let digest = Digest::of(b"x");
    assert_eq!(repository.resolve(&latest()).await.expect("none"), None);
    assert_eq!(repository.manifest(&digest).await.expect("none"), None);
    assert!(!repository.has_blob(&digest).await.expect("none"));
    assert!(!repository.has_manifest(&digest).await.expect("none"));
    assert!(matches!(repository.tags(9).await, Err(RemoteError::NotFound { .. })));
    let missing = repository.blob(&Descriptor::new("l", digest, 1), 0).await.err().expect("missing");
    assert_eq!(missing.reason(), "not-found");

    let upstream = Upstream::start(|_, _| answer(403, &[], "")).await;
    let repository = upstream.repository();
    assert_eq!(repository.has_blob(&digest).await.expect_err("403").reason(), "denied");
    assert_eq!(repository.has_manifest(&digest).await.expect_err("403").reason(), "denied");
}

#[tokio::test]
async fn a_manifest_must_be_what_was_asked_for() {
    let raw = manifest("").raw().clone();
    let digest = manifest("").digest();
    let large = vec![b' '; usize::try_from(MAX_MANIFEST_BYTES + 1).expect("size")];
    let chunked = || futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1 << 20])));
    for (kind, reason) in [
        ("good", ""),
        ("other bytes", "digest-mismatch"),
        ("other type", "malformed-manifest"),
        ("unknown type", "malformed-manifest"),
        ("too large", "too-large"),
        ("too large without end", "too-large"),
        ("truncated", "unreachable"),
    ] {
        let (raw, large) = (raw.clone(), large.clone());
        let upstream = Upstream::start(move |_, _| match kind {
            "other bytes" => answer(200, &[("content-type", OCI_MANIFEST)], "{}"),
            "other type" => answer(200, &[("content-type", OCI_INDEX)], raw.clone()),
            "unknown type" => answer(200, &[("content-type", "text/html")], raw.clone()),
            "too large" => answer(200, &[("content-type", OCI_MANIFEST)], large.clone()),
            "too large without end" => answer(200, &[], axum::body::Body::from_stream(chunked())),
            "truncated" => broken(200, &[("content-type", OCI_MANIFEST)], raw.len(), raw.slice(..9)),
            _ => answer(
                200,
                &[("content-type", "application/vnd.oci.image.manifest.v1+json; charset=utf-8")],
                raw.clone(),
            ),
        })
        .await;
        match upstream.repository().manifest(&digest).await {
            Ok(found) => assert_eq!((found, reason), (Some(manifest("")), ""), "{kind}"),
            Err(error) => assert_eq!(error.reason(), reason, "{kind}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_get_by_tag_must_fit_its_own_digest() {
    let raw = manifest("").raw().clone();
    let other = Digest::of(b"other").to_string();
    let upstream = Upstream::start(move |request, _| match request.method {
        http::Method::HEAD => answer(200, &[], ""),
        _ => answer(200, &[(DIGEST, &other)], raw.clone()),
    })
    .await;
    let error = upstream.repository().resolve(&latest()).await.expect_err("mismatch");
    assert_eq!(error.reason(), "digest-mismatch", "{error}");
}

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::new("layer", Digest::of(bytes), bytes.len() as u64)
}

async fn whole(repository: &RemoteRepository, descriptor: &Descriptor) -> Result<Bytes, RemoteError> {
    let chunks: Vec<Bytes> = repository.blob(descriptor, 0).await?.try_collect().await?;
    Ok(chunks.concat().into())
}

fn content() -> Bytes {
    (0..100_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into()
}

#[tokio::test]
async fn a_blob_comes_whole() {
    let upstream = Upstream::start(|_, _| answer(200, &[], content())).await;
    let repository = upstream.repository();
    assert_eq!(whole(&repository, &blob(&content())).await.expect("whole"), content());
    assert_eq!(repository.small_blob(&blob(&content()), 1 << 20).await.expect("whole"), content());
    let error = repository.small_blob(&blob(&content()), 1 << 10).await.expect_err("limit");
    assert_eq!(error.reason(), "too-large");
    let other = Descriptor { digest: Digest::of(b"other"), ..blob(&content()) };
    let error = repository.small_blob(&other, 1 << 20).await.expect_err("digest");
    assert!(matches!(error, RemoteError::DigestMismatch { .. }), "{error}");

    let upstream = Upstream::start(|_, _| answer(200, &[], "")).await;
    assert_eq!(whole(&upstream.repository(), &blob(b"")).await.expect("empty"), Bytes::new());
}

#[tokio::test]
async fn a_blob_of_another_length_is_refused() {
    let descriptor = blob(b"abcdef");
    for text in ["abcde", "abcdefg"] {
        let upstream = Upstream::start(move |_, _| answer(200, &[], text)).await;
        let error = whole(&upstream.repository(), &descriptor).await.expect_err("length");
        assert!(matches!(error, RemoteError::LengthMismatch { expected: 6, .. }), "{error}");
    }
    // Without a length: the surplus is seen as it comes.
    let upstream = Upstream::start(|_, _| {
        let pieces = futures_util::stream::iter(["abc", "defg"].map(Ok::<_, std::io::Error>));
        answer(200, &[], axum::body::Body::from_stream(pieces))
    })
    .await;
    let error = whole(&upstream.repository(), &descriptor).await.expect_err("surplus");
    assert!(matches!(error, RemoteError::LengthMismatch { expected: 6, actual: 7, .. }), "{error}");
}

#[tokio::test]
async fn a_broken_download_is_taken_up_where_it_broke() {
    let upstream = Upstream::start(|request, _| {
        let content = content();
        let start = request.header("range").trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>();
        match start {
            Err(_) => broken(200, &[], content.len(), content.slice(..70_000)),
            Ok(start) => {
                let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
                answer(206, &[("content-range", &range)], content.slice(start..))
            }
        }
    })
    .await;
    assert_eq!(whole(&upstream.repository(), &blob(&content())).await.expect("whole"), content());
    let seen = upstream.seen();
    assert_eq!((seen.len(), seen[1].header("range")), (2, "bytes=70000-"));
}

#[tokio::test]
async fn a_registry_that_knows_no_ranges_begins_anew() {
    let upstream = Upstream::start(|_, before| match before {
        0 => broken(200, &[], content().len(), content().slice(..70_000)),
        _ => answer(200, &[], content()),
    })
    .await;
    assert_eq!(whole(&upstream.repository(), &blob(&content())).await.expect("whole"), content());
}

#[tokio::test]
async fn another_part_than_asked_for_is_refused() {
    let upstream = Upstream::start(|_, before| match before {
        0 => broken(200, &[], content().len(), content().slice(..70_000)),
        _ => answer(206, &[("content-range", "bytes 7-9/400000")], "xyz"),
    })
    .await;
    let error = whole(&upstream.repository(), &blob(&content())).await.expect_err("part");
    assert!(matches!(error, RemoteError::Malformed { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_always_closes_is_given_up() {
    let upstream = Upstream::start(|_, _| broken(200, &[], content().len(), content().slice(..10))).await;
    let error = whole(&upstream.repository(), &blob(&content())).await.expect_err("closed");
    assert!(matches!(error, RemoteError::Truncated { received: 10, .. }), "{error}");
    assert_eq!(upstream.lines().len(), 6);
}

#[tokio::test]
async fn no_more_requests_than_allowed_are_under_way() {
    let upstream = Upstream::start(|_, _| answer(200, &[], content())).await;
    let repository = upstream.repository();
    let first = repository.blob(&blob(&content()), 0).await.expect("first");
    let _second = repository.blob(&blob(&content()), 0).await.expect("second");
    let wait = Duration::from_millis(100);
    let descriptor = blob(&content());
    let third = tokio::time::timeout(wait, repository.blob(&descriptor, 0)).await;
    assert!(third.is_err(), "a third is under way");
    drop(first);
    let fourth = repository.blob(&descriptor, 0).await;
    assert!(fourth.is_ok(), "room after the first");
}

#[tokio::test]
async fn tags_are_paged() {
    let upstream = Upstream::start(|request, _| {
        assert_eq!(request.path, "/v2/a/b/tags/list");
        if request.query.contains("last=b") {
            answer(200, &[], r#"{"name":"a/b","tags":["c","no tag"]}"#)
        } else {
            answer(200, &[("link", r#"</v2/a/b/tags/list?last=b>; rel="next""#)], r#"{"tags":["a","sha256-x","b"]}"#)
        }
    })
    .await;
    async fn tags(upstream: &Upstream, limit: usize) -> (String, bool) {
        let Tags { tags, cut } = upstream.repository().tags(limit).await.expect("tags");
        (tags.iter().map(Tag::to_string).collect::<Vec<_>>().join(" "), cut)
    }
    assert_eq!(tags(&upstream, 100).await, ("a sha256-x b c".into(), false));
    assert_eq!(tags(&upstream, 4).await, ("a sha256-x b c".into(), false));
    assert_eq!(tags(&upstream, 3).await, ("a sha256-x b".into(), true));
    assert_eq!(tags(&upstream, 2).await, ("a sha256-x".into(), true));
    let upstream = Upstream::start(|_, _| answer(200, &[], r#"{"tags":null}"#)).await;
    assert_eq!(tags(&upstream, 100).await, (String::new(), false));
}

/// The answer to any list: a page, and where the next one is, which is another one each time.
fn another_page(before: usize, body: impl Into<axum::body::Body>) -> http::Response<axum::body::Body> {
    answer(200, &[("link", &format!("<?page={before}>; rel=next"))], body)
}

#[tokio::test]
async fn lists_end_in_bytes_and_in_time() {
    // Each within the limits of a page, and none the same.
    let page = format!("{{\"tags\":[]{}}}", " ".repeat(3 << 20));
    let upstream = Upstream::start(move |_, before| another_page(before, page.clone())).await;
    let error = upstream.repository().tags(100).await.expect_err("bytes");
    assert!(error.reason() == "too-large" && error.to_string().contains("32 MiB over all its pages"), "{error}");
    assert_eq!(upstream.lines().len(), 11);

    let config = RegistriesConfig { timeout: Duration::from_millis(100), ..RegistriesConfig::default() };
    let slow = |body: &'static str| {
        Upstream::start(move |request, before| {
            if request.path.contains("/manifests/") {
                return answer(404, &[], "");
            }
            std::thread::sleep(Duration::from_millis(50));
            another_page(before, body)
        })
    };
    let upstream = slow(r#"{"tags":[]}"#).await;
    let error = upstream.repository_by(config.clone()).tags(100).await.expect_err("time");
    assert!(matches!(error, RemoteError::TooSlow { .. }), "{error}");
    assert!(upstream.lines().len() <= 20, "{}", upstream.lines().len());
    let upstream = slow(r#"{"manifests":[]}"#).await;
    let look = Look::new(upstream.repository_by(config), 1);
    let error = look.referrers(&Digest::of(b"subject")).await.expect_err("time");
    assert!(matches!(error, RemoteError::TooSlow { .. }), "{error}");
}

#[tokio::test]
async fn of_many_referrers_the_first_are_followed() {
    let names: Vec<String> = (0..2005).map(|number| number.to_string()).collect();
    let all = index(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (_, found, lines) = referrers_of((200, all), (200, index(&["b", "5"]))).await.expect("referrers");
    assert_eq!(found.split(' ').count(), 2000);
    assert_eq!(
        (lines[0].as_str(), lines[2].as_str()),
        ("referrers API: 2005", "6 referrers beyond the first 2000 are left")
    );
}

#[tokio::test]
async fn pages_that_lead_nowhere_end() {
    for link in [
        "</v2/a/b/tags/list?n=1000>; rel=next",
        "<http://127.0.0.1:1/v2/a/b/tags/list?n=1>; rel=next",
        "<https://example.org/>; rel=next",
        "<ftp://x/>; rel=next",
    ] {
        let upstream = Upstream::start(move |_, _| answer(200, &[("link", link)], r#"{"tags":["a"]}"#)).await;
        let error = upstream.repository().tags(100).await.expect_err(link);
        assert!(matches!(error, RemoteError::Malformed { .. }), "{link}: {error}");
        assert_eq!(upstream.lines().len(), 1, "{link}");
    }
    for body in ["[]", "{\"tags\":{}}", "<html>"] {
        let upstream = Upstream::start(move |_, _| answer(200, &[], body)).await;
        assert_eq!(upstream.repository().tags(1).await.expect_err(body).reason(), "malformed-answer");
    }
    let upstream = Upstream::start(|_, _| answer(200, &[], vec![b' '; 5 << 20])).await;
    assert_eq!(upstream.repository().tags(1).await.expect_err("large").reason(), "too-large");
}

/// An index of descriptors, each of the digest of its name.
fn index(names: &[&str]) -> String {
    let entries = names.iter().map(|name| {
        format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":9,"artifactType":"t/{name}"}}"#,
            Digest::of(name.as_bytes())
        )
    });
    let entries = entries.collect::<Vec<_>>().join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entries}]}}"#)
}

/// The short digests of names, as [`referrers_of`] returns them.
fn short(names: &[&str]) -> String {
    names.iter().map(|name| Digest::of(name.as_bytes()).short()).collect::<Vec<_>>().join(" ")
}

async fn referrers_of(api: (u16, String), fallback: (u16, String)) -> Result<(bool, String, Vec<String>), RemoteError> {
    let upstream = Upstream::start(move |request, _| {
        let (status, body) = match request.path.as_str() {
            path if path.contains("/referrers/") => &api,
            path if path.contains("/manifests/") => &fallback,
            _ => &(404, String::new()),
        };
        answer(*status, &[("content-type", OCI_INDEX), ("retry-after", "0")], body.clone())
    })
    .await;
    let found = look(&upstream, 1).referrers(&Digest::of(b"subject")).await?;
    let names = found.found.iter().map(|referrer| referrer.digest.short());
    Ok((found.api, names.collect::<Vec<_>>().join(" "), found.looked_at))
}

#[tokio::test]
async fn referrers_by_api_and_by_tag_are_merged() {
    let none = || (404, String::new());
    let (api, types, lines) = referrers_of((200, index(&["a", "b"])), (200, index(&["b", "c"]))).await.expect("both");
    assert_eq!((api, types.as_str()), (true, short(&["a", "b", "c"]).as_str()));
    assert_eq!(lines[0], "referrers API: 2");
    assert!(lines[1].starts_with("sha256-") && lines[1].ends_with("…: 2"), "{lines:?}");
    let (api, types, lines) = referrers_of(none(), (200, index(&["a"]))).await.expect("tag");
    assert_eq!((api, types.as_str(), lines[0].as_str()), (false, short(&["a"]).as_str(), "referrers API: not offered"));
    let (api, types, lines) = referrers_of((200, index(&[])), none()).await.expect("nothing");
    assert_eq!((api, types.as_str(), lines[0].as_str()), (true, "", "referrers API: none"));
    let null = r#"{"schemaVersion":2,"manifests":null}"#.to_owned();
    assert_eq!(referrers_of((200, null), (200, index(&["a"]))).await.expect("null").1, short(&["a"]));
}

#[tokio::test]
async fn a_list_of_referrers_that_cannot_be_had_is_an_error() {
    let none = || (404, String::new());
    for (status, reason) in [
        (401, "unauthorized"),
        (403, "denied"),
        (429, "rate-limited"),
        (500, "registry-error"),
        (418, "registry-error"),
    ] {
        for (api, fallback) in [((status, String::new()), none()), (none(), (status, String::new()))] {
            let error = referrers_of(api, fallback).await.expect_err("error");
            assert_eq!(error.reason(), reason, "{error}");
        }
    }
    for body in ["", "{}", "<html>", r#"{"mediaType":"text/html","manifests":[]}"#, r#"{"manifests":[{}]}"#] {
        let error = referrers_of((200, body.into()), none()).await.expect_err(body);
        assert_eq!(error.reason(), "malformed-answer", "{body}: {error}");
    }
}

#[tokio::test]
async fn referrers_are_paged() {
    let upstream = Upstream::start(|request, _| match (request.path.contains("/referrers/"), request.query.as_str()) {
        (true, "") => answer(200, &[("link", "<?page=2>; rel=next")], index(&["a"])),
        (true, "page=2") => answer(200, &[], index(&["b"])),
        _ => answer(404, &[], ""),
    })
    .await;
    let found = look(&upstream, 1).referrers(&Digest::of(b"subject")).await.expect("pages");
    assert_eq!(found.found.len(), 2);
    // A later page that is gone is not the end of the list.
    let upstream = Upstream::start(|request, _| match request.query.as_str() {
        "" => answer(200, &[("link", "<?page=2>; rel=next")], index(&["a"])),
        _ => answer(404, &[], ""),
    })
    .await;
    assert_eq!(look(&upstream, 1).referrers(&Digest::of(b"s")).await.expect_err("gone").reason(), "not-found");
}
