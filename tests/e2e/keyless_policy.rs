//! Policies that ask for identities: signatures by certificates' holders, judged by the trust folder.

use std::fs;

use harness::Watch;
use harness::fixtures::{Layout, cosign};
use larder_proto::v1::{State, Verdict};
use serde_json::{Value, json};

use super::world::World;

const ISSUER: &str = "http://127.0.0.1:8400";
const ACCEPTED: i32 = 0;
const UNTRUSTED: i32 = 12;

fn root(name: &str) -> Vec<u8> {
    fs::read(cosign().join("keyless/roots").join(name)).expect(name)
}

fn load(world: &World, names: &[&str]) {
    for name in names {
        Layout::at(cosign().join("keyless/layouts").join(name)).load_into(&world.registry, &format!("keyless/{name}"));
    }
}

fn reference(world: &World, name: &str) -> String {
    world.registry.reference(&format!("keyless/{name}"), "v1")
}

fn asks(who: &str) -> Value {
    json!({"images": [{"glob": "**"}],
        "authorities": [{"name": "people", "keyless": {"identities": [{"issuer": ISSUER, "subject": who}]}}]})
}

/// Puts a root and a policy that asks for one identity.
fn trusting(who: &str) -> World {
    let world = World::start();
    world.home.trust().write("roots/lab.json", root("good.json"));
    world.home.trust().policy("people", &asks(who));
    world.daemon.client().trust_becomes("settled", 0, 1);
    world
}

fn verdict(world: &World, reference: &str) -> Verdict {
    world.daemon.client().query(reference).unwrap_or_else(|error| panic!("{reference}: {error:?}"))
}

fn state(world: &World, reference: &str) -> State {
    verdict(world, reference).state()
}

fn becomes(world: &World, reference: &str, wanted: State) {
    harness::eventually(&format!("{reference} is {wanted:?}"), || (state(world, reference) == wanted).then_some(()));
}

#[test]
fn an_identity_verifies_every_format_held_and_not_held() {
    let world = trusting("alice@example.com");
    let good = [
        "image-rekor1",
        "image-rekor1-tsa",
        "image-rekor2-tsa",
        "image-legacy",
        "image-legacy-tsa",
        "image-two-signers",
    ];
    let bad = ["image-bad-sig-flip", "image-bad-set-flip", "image-bad-legacy-cert-swap", "image-bad-moved"];
    load(&world, &good);
    load(&world, &bad[..3]);
    for (names, code) in [(&good[..], ACCEPTED), (&bad[..3], UNTRUSTED)] {
        for name in names {
            let reference = reference(&world, name);
            let output = world.home.larder(["verify", &reference]).exits(code);
            let said = output.stderr.contains("by an identity that a policy asks for, under a trusted root");
            assert_eq!(said, code == ACCEPTED, "{}", output.stderr);
        }
    }
    // A signature that is held counts for its digest in every repository, and these share their image: so one at a time.
    let output = world.home.larder(["pull", &reference(&world, "image-bad-sig-flip")]).exits(0);
    assert_eq!(state(&world, &reference(&world, "image-bad-sig-flip")), State::Untrusted, "{}", output.stderr);
    let explained = world.home.larder(["explain", &reference(&world, "image-bad-sig-flip")]).stdout;
    assert!(explained.contains("identities of people"), "{explained}");
    world.home.larder(["pull", &reference(&world, "image-rekor1-tsa")]).exits(0);
    becomes(&world, &reference(&world, "image-rekor1-tsa"), State::Verified);
    let explained = world.home.larder(["explain", &reference(&world, "image-rekor1-tsa")]).stdout;
    assert!(explained.contains("by alice@example.com (http://127.0.0.1:8400)"), "{explained}");
    // After a restart the checks are computed anew.
    let World { registry, daemon, home } = world;
    drop(daemon);
    let daemon = home.launch().start();
    let world = World { registry, daemon, home };
    becomes(&world, &reference(&world, "image-rekor1-tsa"), State::Verified);
}

#[test]
fn every_change_of_trust_changes_what_it_concerns() {
    let world = trusting("alice@example.com");
    load(&world, &["image-rekor1-tsa"]);
    let image = reference(&world, "image-rekor1-tsa");
    world.home.larder(["pull", &image]).exits(0);
    becomes(&world, &image, State::Verified);
    let trust = world.home.trust();
    trust.policy("people", &asks("bob@example.com"));
    becomes(&world, &image, State::Untrusted);
    let answer = verdict(&world, &image);
    let reason = answer.reasons.iter().find(|reason| reason.code == "identity-refused").expect("the check is named");
    assert!(reason.detail.contains("identity") && reason.detail.contains("alice@example.com"), "{reason:?}");
    trust.policy("people", &asks("alice@example.com"));
    becomes(&world, &image, State::Verified);
    let deny = json!({"identities": [{"issuer": ISSUER, "subject": "alice@example.com", "reason": "left"}]});
    trust.write("deny.yaml", deny.to_string());
    becomes(&world, &image, State::Revoked);
    trust.remove("deny.yaml");
    becomes(&world, &image, State::Verified);
    trust.write("roots/lab.json", root("other.json"));
    becomes(&world, &image, State::Untrusted);
    trust.remove("roots/lab.json");
    harness::eventually("no root", || {
        let reasons = verdict(&world, &image).reasons;
        reasons.iter().any(|reason| reason.code == "root-missing").then_some(())
    });
    trust.write("roots/lab.json", root("good.json"));
    becomes(&world, &image, State::Verified);
    trust.write("roots/lab.json", "{}");
    harness::eventually("a fault", || (world.daemon.client().trust_condition() == "faulty").then_some(()));
    assert_eq!(state(&world, &image), State::Untrusted, "a broken root only narrows");
}

#[test]
fn an_authority_may_ask_for_timestamps_another_root_or_an_attestation() {
    let world = trusting("alice@example.com");
    load(&world, &["image-rekor1-tsa"]);
    let image = reference(&world, "image-rekor1-tsa");
    world.home.larder(["pull", &image]).exits(0);
    let keyless =
        json!({"identities": [{"issuerRegExp": "^http://127[.]0[.]0[.]1:8400$", "subjectRegExp": "^alice@"}]});
    let ask = |authority: Value| {
        world.home.trust().policy("people", &json!({"images": [{"glob": "**"}], "authorities": [authority]}));
    };
    ask(json!({"keyless": keyless, "rfc3161timestamp": {"trustRootRef": "lab"}}));
    becomes(&world, &image, State::Verified);
    ask(json!({"keyless": keyless, "ctlog": {"trustRootRef": "elsewhere"}}));
    becomes(&world, &image, State::Untrusted);
    let with = |name: &str, value: &str| {
        let mut keyless = keyless.clone();
        keyless[name] = json!(value);
        keyless
    };
    ask(json!({"keyless": with("trustRootRef", "lab")}));
    becomes(&world, &image, State::Verified);
    ask(json!({"keyless": with("url", "https://fulcio.elsewhere.example")}));
    becomes(&world, &image, State::Untrusted);
    ask(json!({"keyless": keyless, "signatureFormat": "bundle"}));
    becomes(&world, &image, State::Verified);
    ask(json!({"keyless": keyless, "signatureFormat": "legacy"}));
    becomes(&world, &image, State::Untrusted);
    ask(json!({"keyless": keyless}));
    becomes(&world, &image, State::Verified);
    ask(json!({"keyless": keyless, "attestations": [{"predicateType": "custom"}]}));
    becomes(&world, &image, State::Untrusted);
}

#[test]
fn a_root_that_becomes_too_old_is_told_at_that_instant() {
    let world = World::with_config("[trust]\nroot_max_age_days = 1\n");
    load(&world, &["image-rekor1-tsa"]);
    let image = reference(&world, "image-rekor1-tsa");
    world.home.trust().policy("people", &asks("alice@example.com"));
    let file = world.home.write_beside("lab.json", root("good.json"));
    let file = file.to_str().expect("UTF-8");
    // Without a date its age counts from its newest entry, which is older than a day.
    let added = world.home.larder(["trust", "add-root", file]).exits(0);
    assert!(added.stderr.contains("older than root_max_age_days"), "{}", added.stderr);
    world.home.larder(["pull", &image]).exits(0);
    let reasons = verdict(&world, &image).reasons;
    assert!(reasons.iter().any(|reason| reason.code == "root-too-old"), "{reasons:?}");
    let as_of = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24) + jiff::SignedDuration::from_secs(4);
    world.home.larder(["trust", "add-root", file, "--as-of", &as_of.to_string()]).exits(0);
    becomes(&world, &image, State::Verified);
    let status = world.home.larder(["status"]).exits(0).stdout;
    assert!(status.contains("root lab: as of ") && status.contains("counts until "), "{status}");
    let (watch, _) = Watch::start_complete(&world.home);
    let (_, line) = watch.until("a change", |line| line["type"] == "change" && line["to"] == "untrusted");
    assert!(line["reasons"].to_string().contains("root-too-old"), "{line}");
    for verb in [&["status"][..], &["daemon", "status"], &["trust", "list"]] {
        let said = world.home.larder(verb).stdout;
        assert!(said.contains("lab") && said.contains("too old: as of"), "{verb:?}: {said}");
    }
}

#[test]
fn roots_are_added_replaced_and_removed_by_hand() {
    let world = World::start();
    let file = |name: &str, bytes: &[u8]| world.home.write_beside(name, bytes).to_str().expect("UTF-8").to_owned();
    let (good, other) = (file("good.json", &root("good.json")), file("other.json", &root("other.json")));
    let shipped = world.home.larder(["trust", "add-root", "--public-good", "--output", "json"]).exits(0).json();
    assert_eq!((&shipped["name"], &shipped["root"]["stated"]), (&json!("public-good"), &json!(true)), "{shipped}");
    let settings = fs::read_to_string(world.home.trust().file("roots/public-good.yaml")).expect("its date");
    assert!(settings.contains("asOf: 2026-11-05T00:00:00Z"), "{settings}");
    world.home.larder(["trust", "add-root", &good, "--name", "lab"]).exits(0);
    let again = world.home.larder(["trust", "add-root", &good, "--name", "lab"]).exits(0);
    assert!(again.stderr.contains("nothing was changed"), "{}", again.stderr);
    let taken = world.home.larder(["trust", "add-root", &other, "--name", "lab"]).exits(1);
    taken.is_a_clear_error("roots/lab.json").says(&["--replace"]);
    assert_eq!(fs::read(world.home.trust().file("roots/lab.json")).expect("the root"), root("good.json"));
    world.home.larder(["trust", "add-root", &good, "--name", "lab", "--as-of", "2026-01-01"]).exits(0);
    world.home.larder(["trust", "add-root", &other, "--name", "lab", "--replace"]).exits(0);
    assert_eq!(fs::read(world.home.trust().file("roots/lab.json")).expect("the root"), root("other.json"));
    assert!(!world.home.trust().file("roots/lab.yaml").exists(), "the old copy's date says nothing of the new one");
    world.home.larder(["trust", "add-root", &good, "--name", "x", "--as-of", "2999-01-01"]).exits(1);
    let broken = file("broken.json", b"{}");
    world.home.larder(["trust", "add-root", &broken]).exits(1).is_a_clear_error("broken.json").hints();
    // A key of the same name is another thing.
    let signer = harness::Signer::new("lab");
    world.home.trust().key("lab", &signer);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.home.larder(["trust", "remove", "lab"]).exits(1).is_a_clear_error("a key and a root");
    world.home.larder(["trust", "remove", "roots/lab"]).exits(0);
    world.home.larder(["trust", "remove", "public-good"]).exits(0);
    for name in ["lab.json", "public-good.json", "public-good.yaml"] {
        assert!(!world.home.trust().file("roots").join(name).exists(), "{name}");
    }
    assert!(world.home.trust().file("keys/lab.pub").exists());
    world.home.larder(["trust", "remove", "roots/lab"]).exits(1).is_a_clear_error("lab");
}

#[test]
fn what_is_broken_beside_a_good_signature_is_told() {
    let world = trusting("alice@example.com");
    let name = "image-bad-legacy-stamp-flip";
    load(&world, &[name]);
    let image = reference(&world, name);
    world.home.larder(["pull", &image]).exits(0);
    becomes(&world, &image, State::Verified);
    let explained = world.home.larder(["explain", &image]).exits(0).stdout;
    assert!(explained.contains("timestamp is broken: "), "the log proves it, and the timestamp is told: {explained}");
    assert!(explained.contains("its payload names ") && explained.contains(", and not this repository"), "{explained}");
    let file = world.home.write_beside("root.json", root("good.json"));
    let file = file.to_str().expect("UTF-8");
    let asked = ["verify", "--trusted-root", file, "--certificate-identity", "alice@example.com"];
    let verified = world.home.larder([&asked[..], &["--certificate-oidc-issuer", ISSUER, &image]].concat()).exits(0);
    assert!(verified.stderr.contains("something is broken that was not asked for: timestamp: "), "{}", verified.stderr);
    // Nothing is told of a good one but the name that differs. Held elsewhere, for both are of one image.
    let world = trusting("alice@example.com");
    load(&world, &["image-rekor1-tsa"]);
    let good = reference(&world, "image-rekor1-tsa");
    let file = world.home.write_beside("root.json", root("good.json"));
    let asked =
        ["verify", "--trusted-root", file.to_str().expect("UTF-8"), "--certificate-identity", "alice@example.com"];
    let verified = world.home.larder([&asked[..], &["--certificate-oidc-issuer", ISSUER, &good]].concat()).exits(0);
    assert!(!verified.stderr.contains("broken"), "{}", verified.stderr);
}
