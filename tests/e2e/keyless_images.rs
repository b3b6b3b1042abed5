//! Every `verify` and `verify-attestation` that cosign was tried with on keyless images, with `larder` in its place.
//!
//! cosign 3 is the measure: what it accepts is accepted, what it refuses is refused. Where Larder's answer is another on purpose,
//! the case stands in [`DIFFERENCES`], and in docs/keyless.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::binaries::workspace;
use harness::fixtures::Layout;
use serde_json::Value;

use super::world::World;

/// Cases whose answer is another than cosign 3's: how the case begins, Larder's exit code, and why.
const DIFFERENCES: [(&str, i32, &str); 13] = [
    ("image/image-attest-rekor1-tsa", 10, NOT_A_SIGNATURE),
    ("image/image-attest-rekor1-tsa/stamps", 10, NOT_A_SIGNATURE),
    ("image/image-attest-rekor1-tsa/no-tlog-stamps", 10, NOT_A_SIGNATURE),
    ("image/image-attest-rekor2-tsa", 10, NOT_A_SIGNATURE),
    ("image/image-attest-rekor2-tsa/stamps", 10, NOT_A_SIGNATURE),
    ("image/image-attest-rekor2-tsa/no-tlog-stamps", 10, NOT_A_SIGNATURE),
    ("image/image-legacy/stamps", 12, NO_TIMESTAMP),
    ("image/image-legacy/keys-stamps", 12, NO_TIMESTAMP),
    ("image/image-legacy-actions/stamps", 12, NO_TIMESTAMP),
    ("image/image-legacy-actions/keys-stamps", 12, NO_TIMESTAMP),
    ("image/image-v2made-rekor2-dsse", 0, DSSE_IN_REKOR_2),
    ("image/image-v2made-rekor2-dsse/stamps", 0, DSSE_IN_REKOR_2),
    ("image/image-v2made-rekor2-dsse/no-tlog-stamps", 0, DSSE_IN_REKOR_2),
];
const NOT_A_SIGNATURE: &str = "an attestation is not a signature";
const NO_TIMESTAMP: &str = "a timestamp that is asked for must be there";
const DSSE_IN_REKOR_2: &str = "what cosign 2 logged in Rekor v2 is a good signature";
/// How many runs there are at a time.
const WORKERS: usize = 4;

fn fixtures() -> PathBuf {
    harness::fixtures::cosign().join("keyless")
}

fn cases() -> Vec<Value> {
    let text = fs::read(fixtures().join("expected.json")).expect("expected.json");
    let mut expected: Value = serde_json::from_slice(&text).expect("JSON");
    let cases = expected["cases"].take().as_array().cloned().expect("a list of cases");
    let of_images = |case: &Value| matches!(case["argv"][0].as_str(), Some("verify" | "verify-attestation"));
    cases.into_iter().filter(of_images).collect()
}

/// Runs a case; returns what is wrong with the answer.
fn run(world: &World, case: &Value) -> Option<String> {
    let name = case["name"].as_str().expect("a name");
    let text = |value: &Value| {
        let text = value.as_str().expect("text").replace("{fx}", fixtures().to_str().expect("UTF-8"));
        text.replace("{reg}", &world.registry.host())
    };
    let arguments: Vec<String> = case["argv"].as_array().expect("arguments").iter().map(text).collect();
    // cosign's `-o` is one, and errors are told as JSON where JSON is asked for.
    let says_how = arguments.iter().any(|argument| argument == "-o" || argument.starts_with("--output"));
    let json: &[&str] = if says_how { &[] } else { &["--output", "json"] };
    let mut invocation = world.home.invoke(arguments.iter().map(String::as_str).chain(json.iter().copied()));
    for (variable, value) in case["env"].as_object().into_iter().flatten() {
        invocation = invocation.env(variable, text(value));
    }
    let output = invocation.run();
    let cosign = case["cosign3"]["exit"].as_i64().expect("cosign's exit code") as i32;
    let expected = match DIFFERENCES.iter().find(|(case, ..)| *case == name) {
        Some((_, code, _)) => *code,
        // cosign has its codes for classic signatures only; here they are for every format, and 1 is for no question.
        None if cosign == 1 && !case["cosign3"]["stderr"].as_str().unwrap_or_default().contains("is required for") => {
            12
        }
        None => cosign,
    };
    let told = output.stderr.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let reason = told.unwrap_or_default()["error"]["reason"].as_str().unwrap_or_default().to_owned();
    let is_clear = match expected {
        0 => output.stderr.contains("Verification for ") && !output.stdout.is_empty(),
        1 => reason == "usage" && output.stdout.is_empty(),
        10 => reason == "unsigned" && output.stdout.is_empty(),
        11 => reason == "not-found" && output.stdout.is_empty(),
        _ => reason == "untrusted" && output.stdout.is_empty(),
    };
    let is_right = output.code == expected && is_clear;
    (!is_right).then(|| format!("{name}: {} in place of {expected} (cosign {cosign})\n{}", output.code, output.stderr))
}

#[test]
fn every_case_of_cosigns_comes_out_as_it_is_true() {
    let world = World::start();
    for entry in fs::read_dir(fixtures().join("layouts")).expect("layouts") {
        let entry = entry.expect("an entry");
        let name = format!("keyless/{}", entry.file_name().to_str().expect("UTF-8"));
        Layout::at(entry.path()).load_into(&world.registry, &name);
    }
    // What cosign found under a second tag of some: an image that nobody signed.
    for name in ["image-rekor1-tsa", "image-rekor2-tsa", "image-legacy"] {
        world.registry.put(&format!("keyless/{name}"), "v2", &harness::Image::small("another"));
    }
    let cases = cases();
    assert_eq!(cases.len(), 191);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut wrong = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            wrong.extend(run(&world, case));
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
