//! What one operation need not ask twice, and what it must.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use larder_core::artifact::{DigestTag, TagSuffix};
use larder_core::manifest::OCI_INDEX;
use larder_core::{Digest, Tag};

use super::upstream::{Seen, Upstream, answer};
use crate::remote::{Look, RemoteError};

fn subject(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn tag(name: &str, suffix: TagSuffix) -> Tag {
    DigestTag { digest: subject(name), suffix }.tag().expect("a tag")
}

fn index_of(name: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"m","digest":"{}","size":9}}]}}"#,
        subject(name)
    )
}

fn is(request: &Seen, part: &str) -> bool {
    request.path.contains(part)
}

/// How many requests had this in their path.
fn asked(upstream: &Upstream, part: &str) -> usize {
    upstream.seen().iter().filter(|request| is(request, part)).count()
}

async fn referrers(look: &Look, name: &str) -> Result<usize, RemoteError> {
    Ok(look.referrers(&subject(name)).await?.found.len())
}

#[tokio::test]
async fn one_answer_says_for_all_that_there_is_no_api() {
    for (status, kind, body, asks) in [
        (404, "text/plain", "404 page not found", 1),
        (404, "text/html", "<html>", 1),
        (404, "application/json", r#"{"errors":[{"code":"UNSUPPORTED"}]}"#, 1),
        (405, "application/json", r#"{"errors":[{"code":"UNSUPPORTED"}]}"#, 1),
        (406, "text/plain", "", 1),
        (501, "text/plain", "", 1),
        // These speak of one repository or digest, or of nothing that can be told: all are asked about.
        (404, "application/json", r#"{"errors":[{"code":"NAME_UNKNOWN","message":"x"}]}"#, 3),
        (404, "application/json", r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#, 3),
        (400, "application/json", r#"{"errors":[{"code":"MANIFEST_INVALID"}]}"#, 3),
        (200, "Text/HTML; charset=utf-8", "<html>sign in</html>", 3),
    ] {
        let upstream = Upstream::start(move |request, _| {
            if is(request, "/referrers/") {
                answer(status, &[("content-type", kind)], body)
            } else if is(request, &format!("/manifests/{}", tag("b", TagSuffix::Fallback))) {
                answer(200, &[("content-type", OCI_INDEX)], index_of("of b"))
            } else {
                answer(404, &[], "")
            }
        })
        .await;
        let look = Look::new(upstream.repository(), 3);
        let found = tokio::join!(referrers(&look, "a"), referrers(&look, "b"), referrers(&look, "c"));
        // What is under the fallback tag is found whatever the API says.
        let found = (found.0.expect("a"), found.1.expect("b"), found.2.expect("c"));
        assert_eq!((found, asked(&upstream, "/referrers/")), ((0, 1, 0), asks), "{status} {kind} {body}");
    }
}

#[tokio::test]
async fn a_registry_that_has_the_api_is_asked_about_each() {
    let upstream = Upstream::start(|request, _| match is(request, "/referrers/") {
        true => answer(200, &[("content-type", OCI_INDEX)], index_of("one")),
        false => answer(404, &[], ""),
    })
    .await;
    let look = Look::new(upstream.repository(), 3);
    for name in ["a", "b", "c"] {
        assert_eq!(referrers(&look, name).await.expect(name), 1);
    }
    assert_eq!(asked(&upstream, "/referrers/"), 3);
}

#[tokio::test]
async fn a_failure_about_one_is_no_answer_about_another() {
    let upstream = Upstream::start(|request, before| match is(request, "/referrers/") {
        true if before == 0 => answer(403, &[], ""),
        true => answer(200, &[("content-type", OCI_INDEX)], index_of("one")),
        false => answer(404, &[], ""),
    })
    .await;
    let look = Look::new(upstream.repository(), 3);
    assert_eq!(referrers(&look, "a").await.expect_err("403").reason(), "denied");
    assert_eq!(referrers(&look, "b").await.expect("b"), 1);
}

#[tokio::test]
async fn a_subject_under_its_own_fallback_tag_is_no_list() {
    // As GitLab's registry answers: the tag `sha256-<hex>` is taken for the digest.
    let raw = index_of("a child");
    let own = Digest::of(raw.as_bytes());
    let upstream = Upstream::start(move |request, _| match is(request, "/manifests/") {
        true => answer(200, &[("content-type", OCI_INDEX)], raw.clone()),
        false => answer(404, &[], "404 page not found"),
    })
    .await;
    let look = Look::new(upstream.repository(), 1);
    assert_eq!(look.referrers(&own).await.expect("none").found, []);
    assert_eq!(referrers(&look, "another").await.expect("a list"), 1);
}

fn list_of(tags: &[&Tag]) -> String {
    let tags: Vec<_> = tags.iter().map(|tag| format!("{:?}", tag.as_str())).collect();
    format!(r#"{{"name":"a/b","tags":[{}]}}"#, tags.join(","))
}

#[tokio::test]
async fn a_list_of_tags_says_what_need_not_be_asked_for() {
    let (there, absent) = (tag("a", TagSuffix::Signature), tag("b", TagSuffix::Signature));
    let list = list_of(&[&Tag::latest(), &there]);
    let upstream = Upstream::start(move |request, _| match is(request, "/tags/list") {
        true => answer(200, &[], list.clone()),
        false => answer(200, &[("docker-content-digest", &subject("x").to_string())], ""),
    })
    .await;
    let look = Look::new(upstream.repository(), 500);
    assert!(look.resolve(&Tag::latest(), true).await.expect("an answer").is_some());
    assert!(look.may_be_there(&there).await);
    assert!(!look.may_be_there(&absent).await);
    assert_eq!(asked(&upstream, "/tags/list"), 1, "one list for all");
    // What is found by its name and not listed shows that the list is not whole.
    assert!(look.resolve(&"1.0".parse().expect("a tag"), true).await.expect("an answer").is_some());
    assert!(look.may_be_there(&absent).await);
    assert!(look.may_be_there(&absent).await);
    assert_eq!(asked(&upstream, "/tags/list"), 1);
}

#[tokio::test]
async fn a_list_that_cannot_be_had_makes_nothing_absent() {
    let absent = tag("b", TagSuffix::Signature);
    for (status, body) in [
        (401, ""),
        (403, ""),
        (404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
        (405, ""),
        (200, r#"{"tags":null}"#),
        (200, r#"{"errors":[]}"#),
        (200, "<html>"),
    ] {
        let upstream = Upstream::start(move |_, _| answer(status, &[], body)).await;
        let look = Look::new(upstream.repository(), 500);
        assert!(look.may_be_there(&absent).await, "{status} {body}");
        assert!(look.may_be_there(&absent).await, "{status} {body}");
        assert_eq!(asked(&upstream, "/tags/list"), 1, "{status} {body}");
    }
}

#[tokio::test]
async fn a_long_list_is_given_up_where_it_costs_more_than_it_saves() {
    let pages = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pages);
    let upstream = Upstream::start(move |_, _| {
        let page = count.fetch_add(1, Ordering::Relaxed) + 1;
        let link = format!("</v2/a/b/tags/list?n=1&last={page}>; rel=\"next\"");
        answer(200, &[("link", &link)], format!(r#"{{"tags":["{page}"]}}"#))
    })
    .await;
    for (references, most) in [(1, 1), (7, 7), (100_000, 128)] {
        pages.store(0, Ordering::Relaxed);
        let look = Look::new(upstream.repository(), references);
        assert!(look.may_be_there(&tag("b", TagSuffix::Signature)).await);
        assert_eq!(pages.load(Ordering::Relaxed), most, "{references} references");
    }
}

#[tokio::test]
async fn tags_of_other_registries_pages_are_followed() {
    for link in [
        "</v2/a/b/tags/list?n=2&last=b>; rel=\"next\"",
        "<list?last=b>; rel=next",
        "<?n=2&last=b>; rel=\"next\"",
        "<HOST/v2/a/b/tags/list?last=b>; rel=\"next\"; title=\"more\"",
    ] {
        let host = Arc::new(Mutex::new(String::new()));
        let own = Arc::clone(&host);
        let upstream = Upstream::start(move |request, _| {
            if request.query.contains("last=b") {
                return answer(200, &[], r#"{"tags":["c"]}"#);
            }
            let link = link.replace("HOST", &own.lock().expect("host"));
            answer(200, &[("link", &link)], r#"{"tags":["a","b"]}"#)
        })
        .await;
        *host.lock().expect("host") = format!("http://{}", upstream.address);
        let tags = upstream.repository().tags(9).await.expect(link).tags;
        assert_eq!(tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["a", "b", "c"], "{link}");
    }
}
