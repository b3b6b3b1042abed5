//! Every `verify-blob` and `verify-blob-attestation` that cosign was tried with, with `larder` in its place.
//!
//! cosign 3's exit code is the measure. Where Larder's is another on purpose, the case stands in [`DIFFERENCES`], and in
//! docs/keyless.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::binaries::workspace;
use harness::{Home, Signer};
use serde_json::{Value, json};

/// Cases whose answer is another than cosign 3's: the case, Larder's exit code, and why.
const DIFFERENCES: [(&str, i32, &str); 11] = [
    ("root/future-rekor/blob-rekor2_tsa", 1, LOG_WINDOW),
    ("attest/attest-rekor1_tsa/as-signature", 1, NOT_A_SIGNATURE),
    ("attest/attest-rekor2_tsa/as-signature", 1, NOT_A_SIGNATURE),
    ("attest/attest-actions/as-signature", 1, NOT_A_SIGNATURE),
    ("attest/attest-v2made-rekor1_tsa/as-signature", 1, NOT_A_SIGNATURE),
    ("attest/attest-v2made-rekor2-dsse", 0, DSSE_IN_REKOR_2),
    ("attest/attest-v2made-rekor2-dsse/stamps", 0, DSSE_IN_REKOR_2),
    ("attest/attest-v2made-rekor2-dsse/no-tlog-stamps", 0, DSSE_IN_REKOR_2),
    ("attest/attest-v2made-rekor2-dsse/type-url", 0, DSSE_IN_REKOR_2),
    ("attest/attest-v2made-rekor2-dsse/no-claims-other-file", 0, DSSE_IN_REKOR_2),
    ("attest/attest-v2made-rekor2-dsse/digest", 0, DSSE_IN_REKOR_2),
];
const LOG_WINDOW: &str = "a log counts only while its key is valid, in Rekor v2 too";
const NOT_A_SIGNATURE: &str = "an attestation is not a signature";
const DSSE_IN_REKOR_2: &str = "what cosign 2 logged in Rekor v2 is a good signature";
/// What a refusal is for: a check, or a part of a bundle or a trusted root that cannot be.
const CHECKS: [&str; 18] = [
    "artifact",
    "bundle-field",
    "bundle-version",
    "certificate-chain",
    "identity",
    "issuer",
    "log-entry",
    "not-a-signature",
    "not-an-attestation",
    "observed-time",
    "predicate-type",
    "root-field",
    "root-media-type",
    "sct",
    "signature",
    "signer",
    "timestamp",
    "workflow",
];
/// Cases whose flags ask for nothing that can be answered, beside those of an old bundle under new flags.
const NO_QUESTION: [&str; 8] = [
    "identity/regexp-invalid",
    "identity/exact-and-regexp-wrong",
    "identity/exact-wrong-and-regexp",
    "identity/none",
    "identity/no-issuer",
    "identity/no-identity",
    "identity/identity-empty",
    "identity/key-and-identity",
];
/// How many runs there are at a time.
const WORKERS: usize = 4;

fn fixtures() -> PathBuf {
    harness::fixtures::cosign().join("keyless")
}

fn cases() -> Vec<Value> {
    let text = fs::read(fixtures().join("expected.json")).expect("expected.json");
    let mut expected: Value = serde_json::from_slice(&text).expect("JSON");
    let cases = expected["cases"].take().as_array().cloned().expect("a list of cases");
    cases
        .into_iter()
        .filter(|case| case["argv"][0].as_str().is_some_and(|verb| verb.starts_with("verify-blob")))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").replace("{fx}", fixtures().to_str().expect("UTF-8"))
}

/// Runs a case; returns what is wrong with the answer.
fn run(home: &Home, case: &Value) -> Option<String> {
    let name = case["name"].as_str().expect("a name");
    let arguments: Vec<String> = case["argv"].as_array().expect("arguments").iter().map(text).collect();
    let mut invocation = home.invoke(arguments.iter().map(String::as_str).chain(["--output", "json"]));
    for (variable, value) in case["env"].as_object().into_iter().flatten() {
        invocation = invocation.env(variable, text(value));
    }
    let output = invocation.run();
    let cosign = case["cosign3"]["exit"].as_i64().expect("cosign's exit code") as i32;
    let difference = DIFFERENCES.iter().find(|(case, ..)| *case == name);
    let expected = difference.map_or(cosign, |(_, code, _)| *code);
    let is_said = output.stderr.contains("Verified OK") == (expected == 0);
    let is_clear = expected == 0 || is_refused_for_a_reason(name, &output.stderr);
    let is_right = output.code == expected && is_said && is_clear;
    (!is_right).then(|| format!("{name}: {} in place of {expected} (cosign {cosign})\n{}", output.code, output.stderr))
}

/// Says whether a refusal is by a check, and not for what was asked; or for that where nothing can be asked so.
fn is_refused_for_a_reason(name: &str, stderr: &str) -> bool {
    let told = stderr.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok()).unwrap_or_default();
    let reason = told["error"]["reason"].as_str().unwrap_or_default();
    let is_no_question = NO_QUESTION.contains(&name) || name.ends_with("-v02/chain") || name.ends_with("/trusted-root");
    match name {
        _ if name.starts_with("artifact/missing-") => reason == "file",
        _ if is_no_question => reason == "usage",
        _ => CHECKS.contains(&reason),
    }
}

#[test]
fn every_case_of_cosigns_comes_out_as_it_is_true() {
    let (home, cases, next) = (Home::new(), cases(), AtomicUsize::new(0));
    assert_eq!(cases.len(), 413);
    let worker = || {
        let mut wrong = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            wrong.extend(run(&home, case));
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_difference_is_one_and_is_documented() {
    let manual = fs::read_to_string(workspace().join("docs/keyless.md")).expect("docs/keyless.md");
    let cases = cases();
    let mut names = BTreeSet::new();
    for (name, code, why) in DIFFERENCES {
        let case = cases.iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("no case {name}"));
        assert_ne!(case["cosign3"]["exit"], code, "{name} is no difference");
        assert!(manual.contains(&format!("`{name}`")), "docs/keyless.md does not tell of {name}: {why}");
        assert!(names.insert(name), "{name} is there twice");
    }
}

#[test]
fn no_daemon_is_started_and_nothing_is_kept() {
    let home = Home::new();
    let fixture = |name: &str| fixtures().join(name).to_str().expect("UTF-8").to_owned();
    let arguments = [
        "verify-blob".to_owned(),
        "--bundle".to_owned(),
        fixture("bundles/blob-rekor1_tsa.json"),
        "--trusted-root".to_owned(),
        fixture("roots/good.json"),
        "--certificate-identity=alice@example.com".to_owned(),
        "--certificate-oidc-issuer=http://127.0.0.1:8400".to_owned(),
        fixture("blobs/hello.txt"),
    ];
    let output = home.invoke(&arguments).run().exits(0);
    assert!(output.stdout.is_empty(), "no data: {}", output.stdout);
    assert!(!output.stderr.contains("started larderd"), "{}", output.stderr);
    assert!(!home.path().join("journal").exists(), "a home was made");
}

/// GHSA-fx35: the bundle of an old `sign-blob` may hold a public key where a certificate belongs. Whoever made the bundle chose that
/// key; only the one on the command line counts.
#[test]
fn a_key_in_a_bundle_never_takes_the_place_of_the_one_that_is_asked_for() {
    let home = Home::new();
    let (ours, theirs) = (Signer::new("ours"), Signer::new("theirs"));
    let blob = home.write_beside("blob", "a message");
    let key = |name: &str, signer: &Signer| home.write_beside(name, signer.public_pem());
    let (our_key, their_key) = (key("ours.pub", &ours), key("theirs.pub", &theirs));
    let signature = STANDARD.encode(theirs.sign_bytes(b"a message"));
    for (form, certificate) in [("pem", theirs.public_pem()), ("base64", STANDARD.encode(theirs.public_pem()))] {
        let bundle = json!({"base64Signature": signature, "cert": certificate});
        let bundle = home.write_beside("old.bundle", bundle.to_string());
        let verify = |key: &PathBuf| {
            let arguments = ["verify-blob".into(), "--insecure-ignore-tlog".into(), "--key".into(), key.clone()];
            home.invoke(arguments.into_iter().chain(["--bundle".into(), bundle.clone(), blob.clone()])).run()
        };
        let refused = verify(&our_key).exits(1);
        assert!(
            refused.stderr.contains("error: ") && !refused.stderr.contains("Verified OK"),
            "{form}: {}",
            refused.stderr
        );
        verify(&their_key).exits(0);
    }
}
