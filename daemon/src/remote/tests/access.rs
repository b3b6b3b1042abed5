//! Tokens, passwords, refusals, retries and redirects.

use std::os::unix::fs::PermissionsExt as _;

use http::Method;
use larder_core::{Repository, Tag};

use super::upstream::{Upstream, answer, manifest};
use crate::config::{RegistriesConfig, RegistryConfig};
use crate::remote::auth::Challenge;
use crate::remote::{Access, RemoteError, Remotes};

const DIGEST: &str = "docker-content-digest";

fn latest() -> Tag {
    Tag::latest()
}

/// A registry's settings with a user, and the folder that holds the password.
fn robot() -> (RegistryConfig, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "s3cret\n").expect("write");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode");
    let config =
        RegistryConfig { username: Some("robot".into()), password_file: Some(file), ..RegistryConfig::default() };
    (config, folder)
}

/// A registry that wants a token of its own service, and gives it to `authorization`.
async fn with_tokens(authorization: &'static str, token: &'static str) -> Upstream {
    let digest = manifest("").digest().to_string();
    Upstream::start(move |request, _| match request.path.as_str() {
        "/token" if request.header("authorization") == authorization => answer(200, &[], token),
        "/token" => answer(401, &[], ""),
        _ if request.header("authorization") == "Bearer t0" => answer(200, &[(DIGEST, &digest)], ""),
        _ => {
            let challenge = format!(
                r#"Bearer realm="http://{}/token",service="s",scope="repository:a/b:pull""#,
                request.header("host")
            );
            answer(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_again() {
    let upstream = with_tokens("", r#"{"token":"t0","expires_in":300}"#).await;
    let repository = upstream.repository();
    for _ in 0..2 {
        assert!(repository.resolve(&latest()).await.expect("resolved").is_some());
    }
    assert_eq!(
        upstream.lines(),
        ["HEAD manifests/latest", "GET /token", "HEAD manifests/latest", "HEAD manifests/latest"]
    );
    assert_eq!(upstream.seen()[1].query, "service=s&scope=repository%3Aa%2Fb%3Apull&client_id=larder");
}

#[tokio::test]
async fn requests_that_start_together_ask_for_one_token() {
    let upstream = with_tokens("", r#"{"access_token":"t0"}"#).await;
    let repository = upstream.repository();
    let tag = latest();
    let all = futures_util::future::join_all((0..6).map(|_| repository.resolve(&tag))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(upstream.lines().iter().filter(|line| *line == "GET /token").count(), 1);
}

#[tokio::test]
async fn the_token_service_gets_the_credentials() {
    let upstream = with_tokens("Basic cm9ib3Q6czNjcmV0", r#"{"token":"t0"}"#).await;
    let (config, _folder) = robot();
    let repository = upstream.repository_as(Access::Pull, config);
    assert!(repository.resolve(&latest()).await.expect("resolved").is_some());
    let to_registry = &upstream.seen()[0];
    assert_eq!(to_registry.header("authorization"), "", "nothing is sent before it is asked for");
}

#[tokio::test]
async fn a_refused_token_is_an_error_and_not_an_anonymous_request() {
    let upstream = with_tokens("nobody has this", "").await;
    let error = upstream.repository().resolve(&latest()).await.expect_err("refused");
    assert!(matches!(error, RemoteError::Unauthorized { .. }), "{error}");
    assert_eq!(upstream.lines(), ["HEAD manifests/latest", "GET /token"]);
    for token in ["{}", "<html>", r#"{"token":"a b\nc"}"#] {
        let upstream = with_tokens("", token).await;
        let error = upstream.repository().resolve(&latest()).await.expect_err("no token");
        assert!(matches!(error, RemoteError::Token { .. }), "{token}: {error}");
    }
    // A token that the registry does not accept is not asked for without end.
    let upstream = with_tokens("", r#"{"token":"other"}"#).await;
    let error = upstream.repository().resolve(&latest()).await.expect_err("refused");
    assert!(matches!(error, RemoteError::Unauthorized { .. }), "{error}");
    assert_eq!(upstream.lines().len(), 3);
}

#[tokio::test]
async fn a_realm_elsewhere_must_be_allowed() {
    for (realm, expected) in [
        ("http://auth.example.org/token", "plain-http"),
        ("http://169.254.169.254/token", "plain-http"),
        ("https://169.254.169.254/token", "refused-address"),
        ("https://[fe80::1]/token", "refused-address"),
        ("https://user:pw@127.0.0.1/token", "no-token"),
        ("file:///etc/passwd", "no-token"),
    ] {
        let challenge = format!(r#"Bearer realm="{realm}""#);
        let upstream = Upstream::start(move |_, _| answer(401, &[("www-authenticate", &challenge)], "")).await;
        let error = upstream.repository().resolve(&latest()).await.expect_err(realm);
        assert_eq!(error.reason(), expected, "{realm}: {error}");
    }
}

#[tokio::test]
async fn a_realm_is_no_nearer_than_the_answer_that_names_it() {
    let upstream = Upstream::start(|_, _| answer(200, &[], r#"{"token":"t"}"#)).await;
    let repository = upstream.repository();
    let call = repository.call(Method::GET, repository.at(":latest"), "manifests/latest").expect("call");
    // An answer of which nobody knows where it came from is one from afar.
    let from_afar = reqwest::Response::from(http::Response::new(""));
    let sent = || repository.connection.clients.sent.load(std::sync::atomic::Ordering::Relaxed);
    for realm in [
        "https://10.0.0.1/token",
        "https://192.168.1.1:8443/token",
        "https://[fd00::1]/token",
        "https://[::ffff:10.0.0.1]/token",
        "https://127.0.0.1/token",
        "https://localhost/token",
        "https://0x7f.1/token",
    ] {
        let challenge = Challenge::Bearer { realm: realm.to_owned(), service: None, scope: None };
        let error = repository.connection.answer_to(&call, &from_afar, &challenge, None).await.expect_err(realm);
        assert_eq!(error.reason(), "refused-address", "{realm}: {error}");
    }
    // A name is looked up to see where it is; an address is not even tried.
    assert_eq!((upstream.lines().len(), sent()), (0, 1));
}

#[tokio::test]
async fn a_password_is_sent_where_it_is_asked_for() {
    let digest = manifest("").digest().to_string();
    let upstream = Upstream::start(move |request, _| match request.header("authorization") {
        "Basic cm9ib3Q6czNjcmV0" => answer(200, &[(DIGEST, &digest)], ""),
        _ => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
    })
    .await;
    let (config, folder) = robot();
    let repository = upstream.repository_as(Access::Pull, config);
    for _ in 0..2 {
        assert!(repository.resolve(&latest()).await.expect("resolved").is_some());
    }
    assert_eq!(upstream.lines().len(), 3);
    let error = upstream.repository().resolve(&latest()).await.expect_err("anonymous");
    assert!(matches!(error, RemoteError::Unauthorized { user: None, .. }), "{error}");

    let (config, _other) = robot();
    std::fs::write(folder.path().join("password"), "wrong").expect("write");
    let config = RegistryConfig { password_file: Some(folder.path().join("password")), ..config };
    let error = upstream.repository_as(Access::Pull, config).resolve(&latest()).await.expect_err("wrong");
    assert!(matches!(error, RemoteError::Unauthorized { user: Some(_), .. }), "{error}");
}

#[tokio::test]
async fn refusals_are_told_apart_and_not_retried() {
    for (status, reason, requests) in [
        (403, "denied", 1),
        (400, "registry-error", 1),
        (404, "", 1),
        (451, "registry-error", 1),
        (401, "unauthorized", 1),
    ] {
        let body = r#"{"errors":[{"code":"DENIED","message":"go away"}]}"#;
        let upstream = Upstream::start(move |_, _| answer(status, &[], body)).await;
        match upstream.repository().manifest(&manifest("").digest()).await {
            Ok(None) => assert_eq!(status, 404),
            Ok(Some(_)) => panic!("{status}"),
            Err(error) => {
                assert_eq!(error.reason(), reason, "{error}");
                assert!(error.to_string().contains("DENIED: go away"), "{error}");
                assert!(error.to_string().contains(&upstream.address.to_string()), "{error}");
            }
        }
        assert_eq!(upstream.lines().len(), requests, "{status}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let digest = manifest("").digest().to_string();
    let upstream = Upstream::start(move |_, before| match before {
        0 => answer(429, &[("retry-after", "0")], ""),
        1 => answer(503, &[("retry-after", "0")], ""),
        _ => answer(200, &[(DIGEST, &digest)], ""),
    })
    .await;
    assert!(upstream.repository().resolve(&latest()).await.expect("in the end").is_some());
    assert_eq!(upstream.lines().len(), 3);
}

#[tokio::test]
async fn trying_again_ends() {
    let upstream = Upstream::start(|_, _| answer(500, &[("retry-after", "0")], "x".repeat(100_000))).await;
    let error = upstream.repository().resolve(&latest()).await.expect_err("500");
    assert!(matches!(error, RemoteError::Server { status: 500, .. }), "{error}");
    assert_eq!(upstream.lines().len(), 4);

    let upstream = Upstream::start(|_, _| answer(429, &[("retry-after", "3600")], "")).await;
    let error = upstream.repository().resolve(&latest()).await.expect_err("429");
    assert!(error.to_string().contains("3600 s"), "{error}");
    assert_eq!(upstream.lines().len(), 1, "nobody sits through an hour");
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect() {
    let body = manifest("");
    let (raw, digest) = (body.raw().clone(), body.digest());
    let storage = Upstream::start(move |_, _| answer(200, &[("content-type", body.media_type())], raw.clone())).await;
    let target = format!("http://{}/stored?signature=secret", storage.address);
    let upstream = Upstream::start(move |request, _| match request.header("authorization") {
        "" => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
        _ => answer(307, &[("location", &target)], ""),
    })
    .await;
    let (config, _folder) = robot();
    let repository = upstream.repository_as(Access::Pull, config);
    assert!(repository.manifest(&digest).await.expect("through the redirect").is_some());
    let seen = storage.seen();
    assert_eq!((seen.len(), seen[0].header("authorization")), (1, ""));
    assert_eq!(seen[0].query, "signature=secret");
}

#[tokio::test]
async fn a_challenge_behind_a_redirect_is_not_answered() {
    let storage = Upstream::start(|_, _| answer(401, &[("www-authenticate", "Basic realm=\"r\"")], "")).await;
    let target = format!("http://{}/", storage.address);
    let upstream = Upstream::start(move |_, _| answer(302, &[("location", &target)], "")).await;
    let (config, _folder) = robot();
    let error = upstream.repository_as(Access::Pull, config).resolve(&latest()).await.expect_err("401");
    assert!(matches!(error, RemoteError::Unauthorized { .. }), "{error}");
    assert_eq!(storage.seen().len(), 1);
    assert_eq!(storage.seen()[0].header("authorization"), "");
}

#[tokio::test]
async fn redirects_are_bounded_and_checked() {
    for (location, expected) in [
        ("/v2/a/b/manifests/latest", "refused-redirect"),
        ("https://169.254.169.254/latest/meta-data", "refused-address"),
        ("https://[::ffff:169.254.169.254]/", "refused-address"),
        ("https://0.0.0.0/", "refused-address"),
        ("http://10.0.0.1/", "plain-http"),
        ("ftp://127.0.0.1/", "refused-redirect"),
        ("", "refused-redirect"),
    ] {
        let headers = if location.is_empty() { vec![] } else { vec![("location", location)] };
        let upstream = Upstream::start(move |_, _| answer(302, &headers, "")).await;
        let error = upstream.repository().resolve(&latest()).await.expect_err(location);
        assert_eq!(error.reason(), expected, "{location}: {error}");
        assert!(upstream.lines().len() <= 6, "{location}");
    }
}

#[tokio::test]
async fn names_and_places() {
    let plain = RegistryConfig { plain_http: Some(true), ..RegistryConfig::default() };
    let registries = [("old.lan:80".to_owned(), plain)].into();
    let remotes =
        Remotes::new(RegistriesConfig { registries, concurrency: 0, ..RegistriesConfig::default() }).expect("remotes");
    for (name, origin) in [
        ("alpine", "https://registry-1.docker.io/"),
        ("quay.io/a/b", "https://quay.io/"),
        ("localhost:5000/a", "http://localhost:5000/"),
        ("127.0.0.2:5000/a", "http://127.0.0.2:5000/"),
        ("[::1]:5000/a", "http://[::1]:5000/"),
        ("10.0.0.1:5000/a", "https://10.0.0.1:5000/"),
        ("old.lan:80/a", "http://old.lan/"),
        ("old.lan/a", "https://old.lan/"),
    ] {
        let name: Repository = name.parse().expect(name);
        let repository = remotes.repository(&name, Access::Pull).expect("repository");
        assert_eq!(repository.connection.origin.as_str(), origin);
        assert_eq!(repository.to_string(), name.as_str());
        let call = repository.call(Method::GET, repository.at(""), "manifests/x").expect("call");
        assert_eq!(call.url.path(), format!("/v2/{}/manifests/x", name.path()));
    }
    let local: Repository = "localhost/x".parse().expect("local");
    assert!(matches!(remotes.repository(&local, Access::Pull), Err(RemoteError::LocalRepository(_))));
    let odd: Repository = "1.2.3.4.5/x".parse().expect("odd");
    assert!(matches!(remotes.repository(&odd, Access::Pull), Err(RemoteError::Unreachable { .. })));
}

#[tokio::test]
async fn a_registry_at_a_link_local_address_is_refused() {
    let plain = RegistryConfig { plain_http: Some(true), ..RegistryConfig::default() };
    let registries = [("169.254.169.254".to_owned(), plain)].into();
    let remotes =
        Remotes::new(RegistriesConfig { registries, concurrency: 1, ..RegistriesConfig::default() }).expect("remotes");
    let name: Repository = "169.254.169.254/latest/meta-data".parse().expect("name");
    let error = remotes.repository(&name, Access::Pull).expect("name").resolve(&latest()).await.expect_err("refused");
    assert!(matches!(error, RemoteError::RefusedAddress { .. }), "{error}");
}
