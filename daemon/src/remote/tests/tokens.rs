//! Credentials of docker and podman against token services of every kind.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use larder_core::{Descriptor, Digest, Repository, Tag};

use super::upstream::{Upstream, answer, broken, manifest};
use crate::config::RegistriesConfig;
use crate::config::places::{AuthFile, AuthFormat, Places};
use crate::remote::{Access, RemoteError, RemoteRepository, Remotes, Secret, Target};

const DIGEST: &str = "docker-content-digest";

/// A file of podman's that says this of the registry.
fn file_for(upstream: &Upstream, entry: &str) -> (Places, tempfile::TempDir) {
    file(&format!(r#"{{"auths":{{"{}":{entry}}}}}"#, upstream.address))
}

fn file(text: &str) -> (Places, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("auth.json");
    std::fs::write(&path, text).expect("write");
    let places = Places { auth_files: vec![AuthFile { path, format: AuthFormat::Podman }], ..Places::default() };
    (places, folder)
}

fn remotes(places: Places) -> Remotes {
    Remotes::new(RegistriesConfig { places, concurrency: 2, ..RegistriesConfig::default() }).expect("remotes")
}

fn repository(upstream: &Upstream, places: Places, path: &str) -> RemoteRepository {
    let name = Repository::new(&upstream.address.to_string(), path).expect("name");
    remotes(places).repository(&name, Access::Pull).expect("repository")
}

/// A registry that sends to `/token` and takes what `takes` says.
async fn registry(
    takes: &'static str,
    token: impl Fn(&super::upstream::Seen) -> (u16, String) + Send + Sync + 'static,
) -> Upstream {
    let digest = manifest("").digest().to_string();
    Upstream::start(move |request, _| match request.path.as_str() {
        "/token" => {
            let (status, body) = token(request);
            answer(status, &[], body)
        }
        _ if request.header("authorization") == takes => answer(200, &[(DIGEST, &digest)], "{}"),
        _ => {
            let realm = format!("http://{}/token", request.header("host"));
            let challenge = format!(r#"bearer Realm="{realm}", SERVICE=s , scope="repository:a/b:pull""#);
            answer(401, &[("www-authenticate", "Negotiate"), ("www-authenticate", &challenge)], "")
        }
    })
    .await
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let upstream = registry("Bearer t0", |request| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let expected =
            "grant_type=refresh_token&client_id=larder&service=s&scope=repository%3Aa%2Fb%3Apull&refresh_token=r%2B1";
        let is_right = request.method == "POST" && form == expected && request.query.is_empty();
        let plain = request.header("authorization").is_empty();
        let form_type = request.header("content-type") == "application/x-www-form-urlencoded";
        if is_right && plain && form_type { (200, r#"{"access_token":"t0"}"#.into()) } else { (401, form) }
    })
    .await;
    let (places, _folder) = file_for(&upstream, r#"{"auth":"MDAwMDo=","identitytoken":"r+1"}"#);
    let repository = repository(&upstream, places, "a/b");
    for _ in 0..2 {
        assert!(repository.resolve(&Tag::latest()).await.expect("resolved").is_some());
    }
    assert_eq!(upstream.lines().iter().filter(|line| *line == "POST /token").count(), 1);
}

#[tokio::test]
async fn a_refused_identity_token_is_an_error_and_nobody_is_asked_again() {
    for status in [400, 401, 403, 404, 405] {
        let upstream = registry("Bearer t0", move |_| (status, "{}".into())).await;
        let (places, _folder) = file_for(&upstream, r#"{"identitytoken":"secret-token"}"#);
        let error = repository(&upstream, places, "a/b").resolve(&Tag::latest()).await.expect_err("refused");
        assert!(["unauthorized", "denied", "no-token"].contains(&error.reason()), "{status}: {error}");
        let words = format!("{error} {error:?} {:?}", error.hint());
        assert!(!words.contains("secret-token"), "{words}");
        assert_eq!(upstream.lines(), ["HEAD manifests/latest", "POST /token"], "{status}");
    }
}

#[tokio::test]
async fn a_registry_token_goes_to_the_registry_itself() {
    let upstream = registry("Bearer mine", |_| (500, String::new())).await;
    let (places, _folder) = file_for(&upstream, r#"{"registrytoken":"mine"}"#);
    assert!(repository(&upstream, places, "a/b").resolve(&Tag::latest()).await.expect("resolved").is_some());
    let (places, _folder) = file_for(&upstream, r#"{"registrytoken":"other"}"#);
    let error = repository(&upstream, places, "a/b").resolve(&Tag::latest()).await.expect_err("refused");
    assert!(matches!(error, RemoteError::Unauthorized { user: Some(_), .. }), "{error}");
    assert!(!upstream.lines().iter().any(|line| line.ends_with("/token")));
}

#[tokio::test]
async fn each_part_of_a_registry_has_its_own_login() {
    let upstream = registry("Bearer t0", |request| match request.header("authorization") {
        "Basic dGVhbTpw" => (200, r#"{"token":"t0"}"#.into()),
        other => (401, other.into()),
    })
    .await;
    let host = upstream.address;
    // team:p for one part, and x:p for all else.
    let text = format!(r#"{{"auths":{{"{host}/team":{{"auth":"dGVhbTpw"}},"{host}":{{"auth":"eDpw"}}}}}}"#);
    let (places, _folder) = file(&text);
    let team = repository(&upstream, places.clone(), "team/app");
    assert!(team.resolve(&Tag::latest()).await.expect("the team's").is_some());
    let error = repository(&upstream, places, "other/app").resolve(&Tag::latest()).await.expect_err("x is refused");
    let words = error.to_string();
    assert!(words.contains("x from ") && words.contains("auth.json"), "{words}");
    assert!(error.hint().expect("a hint").contains(&format!("larder login {host}")));
}

#[tokio::test]
async fn a_broken_file_stops_everything_before_anything_is_sent_as_nobody() {
    let upstream = registry("", |_| (200, r#"{"token":"t0"}"#.into())).await;
    let asked = upstream.address.to_string();
    for text in ["{", r#"{"auths":{"x":1}}"#, r#"{"credsStore":"../../bin/sh"}"#, r#"{"credsStore":"absent"}"#] {
        let upstream = registry("Bearer t0", |_| (200, r#"{"token":"t0"}"#.into())).await;
        let (places, _folder) = file(text);
        let error = repository(&upstream, places, "a/b").resolve(&Tag::latest()).await.expect_err(text);
        assert!(matches!(error, RemoteError::Credentials { .. }), "{text}: {error}");
        assert!(error.hint().is_some() && error.to_string().contains("auth.json"), "{text}: {error}");
        assert_eq!(upstream.lines(), ["HEAD manifests/latest"], "no token for nobody: {text}");
    }
    // A registry that asks for nothing needs no file.
    let (places, _folder) = file("{");
    assert!(asked.starts_with("127."));
    assert!(repository(&upstream, places, "a/b").resolve(&Tag::latest()).await.expect("open to all").is_some());
}

#[tokio::test]
async fn tokens_that_end_early_are_renewed_and_a_registry_that_takes_none_ends() {
    // A token serves for two requests only, whatever it says.
    let (given, digest) = (AtomicUsize::new(0), manifest("").digest().to_string());
    let used = AtomicUsize::new(0);
    let upstream = Upstream::start(move |request, _| match request.path.as_str() {
        "/token" => {
            used.store(0, Ordering::SeqCst);
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            answer(200, &[], format!(r#"{{"token":"t{number}","expires_in":3600}}"#))
        }
        _ => {
            let current = format!("Bearer t{}", given.load(Ordering::SeqCst));
            if request.header("authorization") == current && used.fetch_add(1, Ordering::SeqCst) < 2 {
                return answer(200, &[(DIGEST, &digest)], "");
            }
            let challenge = format!(r#"Bearer realm="http://{}/token""#, request.header("host"));
            answer(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await;
    let repository = repository(&upstream, Places::default(), "a/b");
    for _ in 0..7 {
        assert!(repository.resolve(&Tag::latest()).await.expect("renewed").is_some());
    }
    assert_eq!(upstream.lines().iter().filter(|line| line.ends_with("/token")).count(), 4);

    let never = registry("nobody has this", |_| (200, r#"{"token":"t","expires_in":60}"#.into())).await;
    let repository = self::repository(&never, Places::default(), "a/b");
    for requests in [3, 5] {
        let error = repository.resolve(&Tag::latest()).await.expect_err("refused for ever");
        assert_eq!(error.reason(), "unauthorized", "{error}");
        assert!(never.lines().len() <= requests + 1, "{:?}", never.lines());
    }
}

#[tokio::test]
async fn a_download_that_outlives_its_tokens_is_ended_by_further_ones() {
    // Every answer breaks off after a piece, and every token serves for one answer.
    let content: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    let content = Bytes::from(content);
    let descriptor = Descriptor::new("layer", Digest::of(&content), content.len() as u64);
    let (given, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let bytes = content.clone();
    let upstream = Upstream::start(move |request, _| {
        if request.path == "/token" {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            return answer(200, &[], format!(r#"{{"token":"t{number}","expires_in":60}}"#));
        }
        let number = given.load(Ordering::SeqCst);
        if request.header("authorization") != format!("Bearer t{number}")
            || used.swap(number, Ordering::SeqCst) == number
        {
            let challenge = format!(r#"Bearer realm="http://{}/token""#, request.header("host"));
            return answer(401, &[("www-authenticate", &challenge)], "");
        }
        let from = request.header("range").trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
        let rest = bytes.slice(from..);
        let (length, piece) = (rest.len(), rest.slice(..rest.len().min(60_000)));
        match from {
            0 => broken(200, &[], length, piece),
            _ => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                let headers = [("content-range", range.as_str())];
                if length > piece.len() { broken(206, &headers, length, piece) } else { answer(206, &headers, piece) }
            }
        }
    })
    .await;
    let repository = repository(&upstream, Places::default(), "a/b");
    let whole = repository.small_blob(&descriptor, 1 << 20).await.expect("the whole blob");
    assert_eq!(whole, content);
    let asked = |line: &str| upstream.lines().iter().filter(|asked| asked.contains(line)).count();
    assert_eq!((asked("/token"), asked("GET blobs/")), (4, 8), "{:?}", upstream.lines());
}

#[tokio::test]
async fn a_login_is_tried_kept_used_and_forgotten() {
    let upstream = registry("Bearer t0", |request| match request.header("authorization") {
        // robot$x:s3cret
        "Basic cm9ib3QkeDpzM2NyZXQ=" => (200, r#"{"token":"t0"}"#.into()),
        "" => (401, String::new()),
        _ => (403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#.into()),
    })
    .await;
    let (places, folder) = file("");
    let (remotes, path) = (remotes(places), folder.path().join("auth.json"));
    let target = Target { registry: upstream.address.to_string(), prefix: String::new() };
    let secret = |text: &str| Secret::new(text.into());
    let error = remotes.try_login(&target, "robot$x", &secret("wrong-s3cret")).await.expect_err("refused");
    assert!(matches!(error, RemoteError::Denied { .. }) && !format!("{error:?}").contains("wrong-s3cret"), "{error:?}");
    remotes.try_login(&target, "robot$x", &secret("s3cret")).await.expect("taken");
    assert_eq!(upstream.seen().iter().filter(|seen| seen.query.contains("scope=repository%3Aa")).count(), 2);

    let name = Repository::new(&target.registry, "a/b").expect("name");
    let resolve = async || remotes.repository(&name, Access::Pull).expect("repository").resolve(&Tag::latest()).await;
    assert!(resolve().await.is_err(), "nobody yet");
    let kept = remotes.keep_login(&target, "robot$x", &secret("s3cret"), None).await.expect("kept");
    assert!(kept.is_read && kept.place == path.display().to_string());
    assert!(resolve().await.expect("as robot").is_some());
    let who = remotes.login_of(&target).await.expect("known").expect("somebody");
    assert_eq!(who, ("robot$x".to_owned(), path.display().to_string()));
    assert_eq!(remotes.forget_login(Some(&target), None).await.expect("forgotten").len(), 1);
    assert!(resolve().await.is_err(), "nobody again");
    assert!(remotes.login_of(&target).await.expect("known").is_none());
}
