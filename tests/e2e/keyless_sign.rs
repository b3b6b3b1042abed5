//! Signing as somebody, where the services mean harm or fail: nothing is stored that does not check, and the token goes to
//! nobody but Fulcio. What real services answer is in `tests/interop/keyless.rs`.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::hostile::{HostileRegistry, write_answer, write_endlessly, write_head};
use harness::{Home, Output};
use larder_core::signature::bundle::Bundle;
use larder_proto::v1::State;
use serde_json::{Value, json};

use crate::world::World;

/// No real token: three parts of base64.
const TOKEN: &str = "c2VjcmV0.dG9rZW4.c2lnbmF0dXJl";

fn fixture(path: &str) -> String {
    harness::fixtures::cosign().join(path).display().to_string()
}

fn bundle(name: &str) -> Bundle {
    let path = harness::fixtures::cosign().join(format!("keyless/bundles/{name}.json"));
    Bundle::parse(&std::fs::read(path).expect("a bundle")).expect("a bundle")
}

fn answer(status: &'static str, body: impl Into<Vec<u8>>) -> HostileRegistry {
    let body = body.into();
    HostileRegistry::start(move |_, stream| write_answer(stream, status, &["Content-Type: application/json"], &body))
}

fn sign(home: &Home, words: &str, reference: &str) -> Output {
    let root = fixture("keyless/roots/good.json");
    let words = format!("sign --trusted-root {root} {words} {reference}");
    home.invoke(words.split_whitespace().collect::<Vec<_>>()).env("COSIGN_PASSWORD", "larder").run()
}

/// A world with one image, which nobody has signed.
fn unsigned() -> (World, String) {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    (world, reference)
}

/// Nothing was stored, and the token is in no word that was said.
#[track_caller]
fn assert_refused(world: &World, refused: Output, words: &[&str], reference: &str) {
    assert!(matches!(refused.code, 1 | 2), "{}", refused.stderr);
    assert!(!refused.stderr.contains(TOKEN) && !refused.stdout.contains(TOKEN), "{}", refused.stderr);
    refused.says(words).hints();
    assert_eq!(world.daemon.client().state(reference), State::Unsigned);
}

/// What a Fulcio answers that certifies somebody else's key.
fn another_certificate() -> Value {
    let leaf = bundle("blob-rekor1_tsa").material.leaf().expect("a certificate").clone();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(leaf));
    json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": [pem]}}})
}

#[test]
fn whatever_fulcio_answers_nothing_is_stored_that_does_not_check() {
    let (world, reference) = unsigned();
    let detached = json!({"signedCertificateDetachedSct": {"chain": {"certificates": []}}}).to_string();
    let junk = json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": ["junk"]}}}).to_string();
    let refusal = br#"{"code":16,"message":"There was an error processing the identity token","details":[]}"#;
    let another = another_certificate().to_string();
    let cases: [(HostileRegistry, &[&str]); 8] = [
        (
            answer("401 Unauthorized", &refusal[..]),
            &["Fulcio refused", "There was an error processing the identity token"],
        ),
        (answer("302 Found", ""), &["Fulcio refused", "302"]),
        (answer("200 OK", "{"), &["holds no certificate"]),
        (answer("200 OK", "{}"), &["holds no certificate"]),
        (answer("200 OK", detached), &["beside the certificate"]),
        (answer("200 OK", junk), &["cannot be read"]),
        (answer("201 Created", another), &["does not check", "by another key"]),
        (HostileRegistry::start(endless), &["longer than 2 MiB"]),
    ];
    for (fulcio, words) in cases {
        let begun = Instant::now();
        let url = format!("http://{}", fulcio.host());
        let services = format!("--identity-token {TOKEN} --fulcio-url {url} --rekor-url {url}");
        assert_refused(&world, sign(&world.home, &services, &reference), words, &reference);
        assert_eq!(fulcio.asked(), ["POST /api/v2/signingCert"], "and no log was told anything");
        assert!(begun.elapsed() < Duration::from_secs(60), "it took {:?}", begun.elapsed());
    }
}

fn endless(_: &harness::hostile::Asked, stream: &mut TcpStream) -> std::io::Result<()> {
    write_head(stream, "200 OK", &["Content-Type: application/json"])?;
    write_endlessly(stream, &[b' '; 65536], Duration::ZERO)
}

#[test]
fn a_service_that_is_busy_is_asked_again_a_few_times() {
    let (world, reference) = unsigned();
    let busy = HostileRegistry::start(|_, stream| {
        write_answer(stream, "503 Service Unavailable", &["Retry-After: 0"], b"later")
    });
    let services = format!("--identity-token {TOKEN} --fulcio-url http://{0} --rekor-url http://{0}", busy.host());
    let refused = sign(&world.home, &services, &reference);
    assert_refused(&world, refused, &["Fulcio at", "is away", "503"], &reference);
    assert_eq!(busy.count(), 3);
}

#[test]
fn tokens_go_to_nobody_who_could_be_read_on_the_way() {
    let (world, reference) = unsigned();
    for url in ["http://fulcio.example.org", "http://192.0.2.1:5555", "ftp://127.0.0.1", "nonsense"] {
        let services = format!("--identity-token {TOKEN} --fulcio-url {url} --rekor-url https://rekor.example.org");
        let refused = sign(&world.home, &services, &reference);
        assert_eq!(refused.code, 2, "{url}: {}", refused.stderr);
        assert!(!refused.stderr.contains(TOKEN), "{}", refused.stderr);
    }
}

#[test]
fn github_actions_is_asked_for_a_token() {
    let (world, reference) = unsigned();
    let services = HostileRegistry::start(|asked, stream| match asked.path.as_str() {
        "/token?api-version=2.0&audience=sigstore" => {
            write_answer(stream, "200 OK", &[], json!({"count": 1, "value": TOKEN}).to_string().as_bytes())
        }
        _ => write_answer(stream, "400 Bad Request", &[], b"{\"message\": \"not today\"}"),
    });
    let url = format!("http://{}", services.host());
    let root = fixture("keyless/roots/good.json");
    let arguments = ["sign", "--trusted-root", &root, "--fulcio-url", &url, "--rekor-url", &url, &reference];
    let in_actions = |request_url: &str| {
        let invocation = world.home.invoke(arguments).env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "bearer");
        invocation.env("ACTIONS_ID_TOKEN_REQUEST_URL", request_url).run()
    };
    let refused = in_actions(&format!("{url}/token?api-version=2.0"));
    assert_refused(&world, refused, &["Fulcio refused", "not today"], &reference);
    assert_eq!(services.asked(), ["GET /token?api-version=2.0&audience=sigstore", "POST /api/v2/signingCert"]);
    assert_refused(&world, in_actions(&format!("{url}/other")), &["GitHub Actions refused"], &reference);
    let nobody = world.home.invoke(arguments).run();
    assert_refused(&world, nobody, &["neither a key nor an identity token"], &reference);
}

/// What Rekor v1 answers for somebody else's signature.
fn another_entry() -> Value {
    let made = bundle("blob-rekor1_tsa");
    let entry = &made.entries[0];
    let proof = entry.proof.as_ref().expect("a proof");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    json!({"24296fb24b8ad77a": {
        "body": STANDARD.encode(&entry.body), "integratedTime": entry.integrated_time, "logID": hex(&entry.log_id),
        "logIndex": entry.log_index,
        "verification": {
            "signedEntryTimestamp": STANDARD.encode(entry.promise.as_ref().expect("a promise")),
            "inclusionProof": {
                "logIndex": proof.log_index, "rootHash": hex(&proof.root_hash), "treeSize": proof.tree_size,
                "hashes": proof.hashes.iter().map(|hash| hex(hash)).collect::<Vec<_>>(), "checkpoint": proof.checkpoint,
            },
        },
    }})
}

#[test]
fn what_witnesses_of_a_key_answer_is_checked() {
    let (world, reference) = unsigned();
    let key = fixture("keys/p256.key");
    let stamp = bundle("blob-rekor1_tsa").timestamps[0].to_vec();
    let conflict = |place: &'static str| {
        HostileRegistry::start(move |asked, stream| match asked.method.as_str() {
            "POST" => write_answer(stream, "409 Conflict", &[place], b"{\"message\": \"an equivalent entry exists\"}"),
            _ => write_answer(stream, "200 OK", &[], another_entry().to_string().as_bytes()),
        })
    };
    let cases: [(&str, HostileRegistry, &[&str]); 7] = [
        (
            "--rekor-url",
            answer("201 Created", another_entry().to_string()),
            &["a log entry is broken", "of another signature"],
        ),
        ("--rekor-url", answer("201 Created", "{}"), &["cannot be read"]),
        ("--rekor-url", answer("400 Bad Request", "{\"message\":\"no\"}"), &["Rekor refused", "no"]),
        ("--rekor-url", conflict("Location: /api/v1/log/entries/1"), &["of another signature"]),
        ("--rekor-url", conflict("Location: https://rekor.example.org/api/v1/log/entries/1"), &["and not where"]),
        ("--timestamp-server-url", answer("200 OK", stamp), &["it is over something else"]),
        ("--timestamp-server-url", answer("200 OK", "junk"), &["it has no good timestamp"]),
    ];
    for (flag, service, words) in cases {
        let with = format!("--key {key} {flag} http://{}", service.host());
        assert_refused(&world, sign(&world.home, &with, &reference), words, &reference);
        assert!(service.count() > 0);
    }
}

#[test]
fn nobody_is_asked_who_is_not_to_be() {
    let (world, reference) = unsigned();
    let log = answer("201 Created", "{}");
    let with = format!("--key {} --rekor-url http://{} --tlog-upload=false", fixture("keys/p256.key"), log.host());
    sign(&world.home, &with, &reference).exits(0);
    assert_eq!(log.count(), 0);
    assert_ne!(world.daemon.client().state(&reference), State::Unsigned);
}
