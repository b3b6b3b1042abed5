//! Conditions in Rego over what is attested: in policies, and asked for by a flag.

use harness::fixtures::cosign;
use larder_proto::v1::State;
use serde_json::json;

use crate::sign_formats::with_key;
use crate::world::World;

const KEY: &str = "p256";

/// A world that holds an image with an attestation of a level, under a policy that asks for at least `least`.
fn attested(level: u32, least: u32) -> (World, String) {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let file = world.home.write_beside("level.json", json!({"level": level}).to_string());
    let rest = ["--type", "https://example.org/level", "--predicate", &file.display().to_string(), &reference];
    with_key(&world.home, "attest", KEY, &rest).exits(0);
    asks(&world, least);
    (world, reference)
}

fn asks(world: &World, least: u32) {
    let pem = std::fs::read_to_string(cosign().join("keys").join(format!("{KEY}.pub"))).expect("a key");
    let rego = format!("package sigstore\nisCompliant {{ input.predicate.level >= {least} }}\n");
    let entry = json!({"name": "level", "predicateType": "https://example.org/level",
        "policy": {"type": "rego", "data": rego}});
    let authority = json!({"name": "us", "key": {"data": pem}, "attestations": [entry]});
    world.home.trust().policy("level", &json!({"images": [{"glob": "**"}], "authorities": [authority]}));
}

#[test]
fn a_policys_condition_decides_and_a_new_one_is_checked_anew() {
    let (world, reference) = attested(2, 2);
    let client = world.daemon.client();
    client.becomes(&reference, State::Verified);
    asks(&world, 3);
    client.becomes(&reference, State::Untrusted);
    let reasons = client.query(&reference).expect("a verdict").reasons;
    assert!(reasons.iter().any(|one| one.code == "condition-failed" && one.detail == "level"), "{reasons:?}");
    let explained = world.home.larder(["explain", &reference]).exits(0).stdout;
    assert!(explained.contains("the policy's condition does not hold"), "{explained}");
    asks(&world, 1);
    client.becomes(&reference, State::Verified);
    // What was found out is computed anew after a restart.
    let World { registry, daemon, home } = world;
    drop(daemon);
    let daemon = home.start();
    daemon.client().becomes(&reference, State::Verified);
    drop(registry);
}

#[test]
fn a_condition_may_be_asked_for_by_a_flag() {
    let (world, reference) = attested(2, 2);
    let key = cosign().join("keys").join(format!("{KEY}.pub")).display().to_string();
    let verify = |file: &str, text: &str| {
        let file = world.home.write_beside(file, text).display().to_string();
        let kind = "https://example.org/level";
        world.home.larder(["verify-attestation", "--key", &key, "--type", kind, "--policy", &file, &reference])
    };
    let good = verify("good.rego", "package signature\nallow { input.predicate.level == 2 }\n").exits(0);
    assert!(good.stdout.contains("payloadType"), "{}", good.stdout);
    let bad = verify("bad.rego", "package signature\ndefault allow = false\nallow { input.predicate.level == 3 }\n");
    bad.exits(1).is_a_clear_error("data.signature.allow is not true").hints();
    verify("other.rego", "package other\nallow { true }\n").exits(1).is_a_clear_error("other.rego");
    verify("broken.rego", "package signature\nallow {").exits(1).is_a_clear_error("cannot be read as Rego");
    verify("a.cue", "predicate: level: 2").exits(1).is_a_clear_error("CUE").hints();
    verify("a.json", "{}").exits(1).is_a_clear_error("invalid policy format");
}
