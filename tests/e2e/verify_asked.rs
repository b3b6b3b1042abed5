//! `larder verify` and `verify-attestation` under flags: what cosign signed with keys, held and not held.

use std::fs;

use harness::fixtures::{Layout, cosign, repositories};
use harness::{Image, Signer};
use serde_json::Value;

use super::world::World;

const ACCEPTED: i32 = 0;
const UNSIGNED: i32 = 10;
const NOT_THERE: i32 = 11;
const UNTRUSTED: i32 = 12;

fn cases() -> Vec<Value> {
    let text = fs::read(cosign().join("expected.json")).expect("expected.json");
    let mut expected: Value = serde_json::from_slice(&text).expect("JSON");
    expected["cases"].take().as_array().cloned().expect("a list of cases")
}

/// Says what is true: accepted if and only if the key signed this digest, in either format.
fn truth(case: &Value, arguments: &[&str]) -> i32 {
    let exits = ["cosign2", "cosign3"].map(|version| case[version]["exit"].as_i64());
    let reference = case["ref"].as_str().expect("a ref");
    // cosign fails its own signatures by these keys, for it tries another hash; they are good ones.
    let by_curve = ["ec-p-384", "ec-p-521", "ed25519"].iter().any(|name| reference.ends_with(name));
    let own_key = !arguments.contains(&"p256.pub");
    if exits.contains(&Some(0)) || (by_curve && own_key) {
        return ACCEPTED;
    }
    if reference == "single:2.0.0" { UNSIGNED } else { UNTRUSTED }
}

/// Whether what cosign looked at is held here: a signature that is held counts wherever it was found, cosign looks in one place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    No,
    Yes,
}

fn run(world: &World, case: &Value, held: Held) -> Option<String> {
    let arguments: Vec<&str> = case["args"].as_array().expect("args").iter().filter_map(Value::as_str).collect();
    let (repository, tag) = case["ref"].as_str().and_then(|text| text.split_once(':')).expect("a tag");
    let key = |text: &&str| match text.ends_with(".pub") {
        true => cosign().join("keys").join(text).to_str().expect("UTF-8").to_owned(),
        false => (*text).to_owned(),
    };
    let expected = truth(case, &arguments);
    let words: Vec<String> = arguments.iter().map(key).collect();
    let output = world.home.larder(words.iter().chain([&world.registry.reference(repository, tag)]));
    let is_right = output.code == expected && output.stdout.is_empty() == (expected != ACCEPTED);
    if !is_right {
        let code = output.code;
        return Some(format!("{repository}:{tag} {arguments:?}: {code} in place of {expected}\n{}", output.stderr));
    }
    // cosign was asked by digest, but for an attachment.
    let theirs = printed_by_cosign(case).filter(|_| expected == ACCEPTED)?;
    let stdout = match case["digest"].as_str() {
        None => output.stdout,
        Some(digest) => {
            let by_digest = format!("{}/{repository}@{digest}", world.registry.host());
            world.home.larder(words.iter().chain([&by_digest])).stdout
        }
    };
    let ours = printed(&stdout, &world.registry.host());
    let is_same = match (held, ours.as_slice(), theirs.as_slice()) {
        (Held::Yes, [Value::Array(ours)], [Value::Array(theirs)]) => theirs.iter().all(|one| ours.contains(one)),
        (Held::Yes, ours, theirs) => theirs.iter().all(|one| ours.contains(one)),
        (Held::No, ..) => ours == theirs,
    };
    (!is_same).then(|| format!("{repository}:{tag} {arguments:?} prints\n{ours:?}\nin place of\n{theirs:?}"))
}

/// Returns the lines of JSON that a version of cosign printed which accepted it.
fn printed_by_cosign(case: &Value) -> Option<Vec<Value>> {
    let version = ["cosign3", "cosign2"].into_iter().find(|version| case[*version]["exit"] == ACCEPTED)?;
    Some(case[version]["stdout"].as_array()?.iter().cloned().map(only_signatures).map(without_key_id).collect())
}

/// cosign 3 counts a bundle with any attestation as a signature, and prints it; Larder does with `--compat-cosign` only.
fn only_signatures(mut printed: Value) -> Value {
    const SIGNATURES: [&str; 2] = ["cosign container image signature", "https://sigstore.dev/cosign/sign/v1"];
    if let Some(payloads) = printed.as_array_mut() {
        payloads.retain(|payload| payload["critical"]["type"].as_str().is_some_and(|kind| SIGNATURES.contains(&kind)));
    }
    printed
}

/// Reads what Larder printed, with the name of cosign's registry in the place of this one's.
fn printed(stdout: &str, host: &str) -> Vec<Value> {
    let stdout = stdout.replace(&format!("{host}/"), "127.0.0.1:5001/pantry/");
    stdout.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// cosign 2 writes an empty `keyid` into envelopes, cosign 3 none.
fn without_key_id(mut printed: Value) -> Value {
    for signature in printed.get_mut("signatures").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(signature) = signature.as_object_mut()
            && signature.get("keyid").is_some_and(|key_id| key_id == "")
        {
            signature.remove("keyid");
        }
    }
    printed
}

#[test]
fn every_row_of_cosigns_gets_the_truth_held_and_not_held() {
    let world = World::start();
    for repository in repositories() {
        Layout::open(&repository).load_into(&world.registry, &repository);
    }
    let cases = cases();
    assert_eq!(cases.len(), 68);
    let wrong: Vec<String> = cases.iter().filter_map(|case| run(&world, case, Held::No)).collect();
    assert!(wrong.is_empty(), "not held:\n{}", wrong.join("\n"));
    for repository in repositories() {
        for tag in Layout::open(&repository).subjects() {
            let reference = world.registry.reference(&repository, &tag);
            world.home.larder(["pull", "--platform", "all", &reference]).exits(0);
        }
    }
    let wrong: Vec<String> = cases.iter().filter_map(|case| run(&world, case, Held::Yes)).collect();
    assert!(wrong.is_empty(), "held:\n{}", wrong.join("\n"));
    assert!(world.daemon.client().trust_list().keys.is_empty(), "stored trust is as it was");
}

fn key_file(world: &World, name: &str, signer: &Signer) -> String {
    let path = world.home.write_beside(name, signer.public_pem());
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn any_of_several_keys_and_not_the_trust_folder() {
    let (world, one, other) = (World::start(), Signer::new("one"), Signer::new("other"));
    let reference = world.reference("1.0");
    world.upstream("1.0", &[&one]);
    let (one_pub, other_pub) = (key_file(&world, "one.pub", &one), key_file(&world, "other.pub", &other));
    world.home.trust().key("other", &other);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.home.larder(["verify", &reference]).exits(UNTRUSTED);
    let output = world.home.larder(["verify", "--key", &other_pub, "--key", &one_pub, &reference]).exits(ACCEPTED);
    assert!(output.stderr.contains("  - The cosign claims were validated\n"), "{}", output.stderr);
    assert!(output.stderr.contains("verified against the specified public key"), "{}", output.stderr);
    assert!(!output.stderr.contains("transparency log"), "only checks that ran: {}", output.stderr);
    let printed: Value = serde_json::from_str(output.stdout.trim()).expect("JSON");
    assert_eq!(printed[0]["critical"]["type"], "cosign container image signature");
    let refused = world.home.larder(["verify", "--key", &other_pub, &reference]).exits(UNTRUSTED);
    assert!(refused.stderr.contains("(signature)"), "the check is named: {}", refused.stderr);
    // What is trusted plays no part, and what is not is not trusted for it.
    world.home.trust().remove_key("other");
    world.daemon.client().trust_becomes("settled", 0, 0);
    world.home.larder(["verify", "--key", &one_pub, &reference]).exits(ACCEPTED);
}

#[test]
fn the_attached_sbom_has_signatures_of_its_own() {
    let world = World::start();
    Layout::open("single").load_into(&world.registry, "single");
    let key = cosign().join("keys/p256.pub");
    let key = key.to_str().expect("UTF-8");
    let other = cosign().join("keys/other.pub");
    let (signed, bare) = (world.registry.reference("single", "1.0.0"), world.registry.reference("single", "2.0.0"));
    let verify =
        |key: &str, reference: &str| world.home.larder(["verify", "--attachment", "sbom", "--key", key, reference]);
    for _ in 0..2 {
        let output = verify(key, &signed).exits(ACCEPTED);
        let printed: Value = serde_json::from_str(output.stdout.trim()).expect("JSON");
        let image = &world.home.larder(["verify", "--key", key, &signed]).exits(ACCEPTED).stdout;
        let image: Value = serde_json::from_str(image.trim()).expect("JSON");
        assert_ne!(printed[0]["critical"]["image"], image[0]["critical"]["image"]);
        verify(other.to_str().expect("UTF-8"), &signed).exits(UNTRUSTED);
        verify(key, &bare).exits(NOT_THERE);
        world.home.larder(["pull", &signed]).exits(0);
        world.home.larder(["pull", &bare]).exits(0);
    }
}

#[test]
fn an_attestation_counts_as_a_signature_only_where_that_is_asked_for() {
    let world = World::start();
    let (layout, folder) = (Layout::open("single"), cosign());
    layout.load_into(&world.registry, "single");
    let key = folder.join("keys/p256.pub");
    let key = key.to_str().expect("UTF-8");
    let attested = world.registry.reference("single", "1.1.0");
    let count = |arguments: &[&str]| {
        let output = world.home.larder(arguments).exits(ACCEPTED);
        let printed: Value = serde_json::from_str(output.stdout.trim()).expect("JSON");
        printed.as_array().map_or(0, Vec::len)
    };
    assert_eq!(count(&["verify", "--key", key, &attested]), 1);
    assert_eq!(count(&["verify", "--key", key, "--compat-cosign", &attested]), 3);
    let lines =
        world.home.larder(["verify-attestation", "--key", key, "--type", "cyclonedx", &attested]).exits(0).stdout;
    let envelope: Value = serde_json::from_str(lines.trim()).expect("one envelope");
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
}

#[test]
fn what_is_no_question_is_refused_before_anything_is_asked() {
    let world = World::start();
    world.upstream("1.0", &[]);
    let reference = world.reference("1.0");
    let signer = Signer::new("one");
    let key = key_file(&world, "one.pub", &signer);
    let junk = world.home.write_beside("junk.pub", "-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n");
    let junk = junk.to_str().expect("UTF-8");
    for (arguments, says) in [
        (vec!["--key", "/nowhere.pub"], "/nowhere.pub"),
        (vec!["--key", junk], "public key"),
        (vec!["--key", &key, "--certificate-identity", "a@example.com"], "cannot be used with"),
        (vec!["-a", "env=prod"], "--key"),
        (vec!["--key", &key, "-a", "env"], "KEY=VALUE"),
        (vec!["--trusted-root", &key], "--key"),
        (vec!["--key", &key, "--trusted-root", junk], "trusted root"),
        (vec!["--certificate-identity", "a@example.com"], "--certificate-oidc-issuer"),
        (vec!["--certificate-identity-regexp", "(", "--certificate-oidc-issuer", "x"], "regular expression"),
        (vec!["--certificate-identity", "a", "--certificate-oidc-issuer", "x"], "--trusted-root"),
    ] {
        let whole: Vec<&str> = ["verify"].into_iter().chain(arguments.clone()).chain([reference.as_str()]).collect();
        let output = world.home.larder(&whole);
        assert_eq!(output.code, 1, "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(says) && output.stdout.is_empty(), "{arguments:?}: {}", output.stderr);
    }
    world.home.larder(["verify", "--key", &key, &reference]).exits(UNSIGNED);
    world.home.larder(["verify", "--key", &key, &world.reference("nowhere")]).exits(NOT_THERE);
    let held = Image::small("held");
    world.registry.put("store/app", "held", &held);
    world.pull("held");
    world.home.larder(["verify", "--key", &key, &world.reference("held")]).exits(UNSIGNED);
}
