use std::fs;
use std::os::unix::fs::symlink;

use harness::cli::has_reason;
use harness::{Image, Signer, Watch};
use larder_proto::v1::State;
use serde_json::json;

use crate::world::World;

/// A world that holds one image signed by `release`.
#[track_caller]
fn signed() -> (World, Signer, String) {
    let (world, release) = (World::start(), Signer::new("release"));
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    (world, release, reference)
}

#[test]
fn add_puts_the_file_and_returns_when_it_is_in_force() {
    let (world, release, reference) = signed();
    let file = world.home.write_beside("release.pub", release.public_pem());
    world.home.larder(["trust", "add", file.to_str().expect("UTF-8")]).exits(0);
    assert_eq!(
        fs::read_to_string(world.home.trust().file("keys/release.pub")).expect("the file"),
        release.public_pem()
    );
    assert_eq!(world.daemon.client().state(&reference), State::Verified, "in force when `trust add` returns");
    world.home.larder(["trust", "remove", "release"]).exits(0);
    assert!(!world.home.trust().file("keys/release.pub").exists());
    assert_eq!(world.daemon.client().state(&reference), State::Untrusted, "in force when `trust remove` returns");
}

#[test]
fn add_with_name_and_scope_and_onto_a_name_that_is_taken() {
    let (world, release, reference) = signed();
    let file = world.home.write_beside("any.pub", release.public_pem());
    let file = file.to_str().expect("UTF-8");
    world.home.larder(["trust", "add", file, "--name", "release", "--for", "quay.io/**"]).exits(0);
    assert!(
        world.home.trust().file("keys/release.pub").exists() && world.home.trust().file("keys/release.yaml").exists()
    );
    assert_eq!(world.daemon.client().state(&reference), State::Untrusted);
    let other = world.home.write_beside("other.pub", Signer::new("other").public_pem());
    let arguments = ["trust", "add", other.to_str().expect("UTF-8"), "--name", "release"];
    world.home.larder(arguments).exits(1).is_a_clear_error("release").says(&["--name"]);
    assert_eq!(fs::read_to_string(world.home.trust().file("keys/release.pub")).expect("the key"), release.public_pem());
}

#[test]
fn any_other_means_has_the_same_effect() {
    let (world, release, reference) = signed();
    let trust = world.home.trust();
    let client = world.daemon.client();
    let file = trust.file("keys/release.pub");
    // An editor that writes in place.
    fs::write(&file, release.public_pem()).expect("a write");
    client.becomes(&reference, State::Verified);
    // Replaced by another key, and back.
    fs::write(&file, Signer::new("other").public_pem()).expect("a write");
    client.becomes(&reference, State::Untrusted);
    trust.key("release", &release);
    client.becomes(&reference, State::Verified);
    fs::rename(&file, world.home.beside("gone.pub")).expect("a rename");
    client.becomes(&reference, State::Untrusted);
    // A link, as a mounted ConfigMap has it, and its swap.
    let (one, two) = (world.home.beside("one"), world.home.beside("two"));
    fs::create_dir(&one).and_then(|()| fs::create_dir(&two)).expect("folders");
    fs::write(one.join("release.pub"), release.public_pem()).expect("a write");
    symlink(&one, trust.file("keys/..data")).expect("a link");
    symlink("..data/release.pub", &file).expect("a link");
    client.becomes(&reference, State::Verified);
    fs::write(two.join("release.pub"), Signer::new("other").public_pem()).expect("a write");
    symlink(&two, trust.file("keys/..new")).expect("a link");
    fs::rename(trust.file("keys/..new"), trust.file("keys/..data")).expect("a swap");
    client.becomes(&reference, State::Untrusted);
}

#[test]
fn the_whole_folder_swapped() {
    let (world, release, reference) = signed();
    let trust = world.home.trust();
    let client = world.daemon.client();
    trust.key("release", &release);
    client.becomes(&reference, State::Verified);
    fs::rename(trust.path(), world.home.beside("old")).expect("a rename");
    client.becomes(&reference, State::Pending);
    trust.create();
    // Empty folders that are there are "no keys".
    client.becomes(&reference, State::Untrusted);
    trust.key("release", &release);
    client.becomes(&reference, State::Verified);
}

#[test]
fn a_plain_file_or_a_dangling_link_in_place_of_a_folder_is_not_no_keys() {
    for dangling in [false, true] {
        for folder in ["", "keys"] {
            let (world, release, reference) = signed();
            world.home.trust().key("release", &release);
            let client = world.daemon.client();
            client.becomes(&reference, State::Verified);
            let trust = world.home.trust();
            let place = if folder.is_empty() { trust.path().to_owned() } else { trust.file(folder) };
            fs::rename(&place, world.home.beside("away")).expect("a rename");
            if dangling {
                symlink("/nowhere/at/all", &place).expect("a link");
            } else {
                fs::write(&place, "a plain file").expect("a file");
            }
            client.becomes(&reference, State::Pending);
            world.home.larder(["status", &reference]).exits(4);
            world.daemon.http().blob(&world.served(), &Image::small("1.0").top_layer()).is(503);
            fs::remove_file(&place).and_then(|()| fs::rename(world.home.beside("away"), &place)).expect("as before");
            client.becomes(&reference, State::Verified);
        }
    }
}

#[test]
fn a_key_that_does_not_parse_is_a_fault_that_frees_nothing() {
    let (world, release, reference) = signed();
    let client = world.daemon.client();
    world.home.trust().key("release", &release);
    client.becomes(&reference, State::Verified);
    world.home.trust().write("keys/broken.pub", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    harness::eventually("a fault", || (client.trust_condition() == "faulty").then_some(()));
    assert_eq!(client.state(&reference), State::Verified, "what was accepted stays");
    let faults = client.trust_list().health.expect("health").faults;
    assert!(faults.iter().any(|fault| fault.path == "keys/broken.pub"), "{faults:?}");
    // Nothing new is accepted while the fault lasts, and `trust add` names the faulty file.
    let other = Signer::new("other");
    world.upstream("2.0", &[&other]);
    world.pull("2.0");
    let file = world.home.write_beside("other.pub", other.public_pem());
    world.home.larder(["trust", "add", file.to_str().expect("UTF-8")]).exits(1).is_a_clear_error("keys/broken.pub");
    assert!(world.home.trust().file("keys/other.pub").exists(), "what was written stays");
    assert_eq!(client.state(&world.reference("2.0")), State::Untrusted);
    // A removal acts all the same.
    world.home.trust().remove_key("release");
    client.becomes(&reference, State::Untrusted);
    world.home.trust().remove_key("broken");
    client.becomes(&world.reference("2.0"), State::Verified);
}

#[test]
fn no_key_acts_before_the_file_that_revokes_it() {
    let (world, release, reference) = signed();
    let (watch, _) = Watch::start_complete(&world.home);
    let trust = world.home.trust();
    // Both are prepared beside, so that they appear within the time of quiet.
    let (public, scope) = (trust.file("keys/.a.pub"), trust.file("keys/.a.yaml"));
    fs::write(&public, release.public_pem()).expect("a file");
    fs::write(&scope, json!({"revoked": {"reason": "leaked"}}).to_string()).expect("a file");
    fs::rename(&public, trust.file("keys/a.pub")).expect("a rename");
    fs::rename(&scope, trust.file("keys/a.yaml")).expect("a rename");
    let digest = Image::small("1.0").digest().to_string();
    let (_, line) = watch.until("a change", |line| line["type"] == "change" && line["digest"] == digest.as_str());
    assert_eq!((&line["from"], &line["to"]), (&json!("untrusted"), &json!("revoked")), "{line}");
    assert_eq!(world.daemon.client().state(&reference), State::Revoked);
}

#[test]
fn a_policy_with_unknown_fields_never_helps() {
    let (world, release, reference) = signed();
    let trust = world.home.trust();
    let client = world.daemon.client();
    trust.key("release", &release);
    client.becomes(&reference, State::Verified);
    trust.policy(
        "p",
        &json!({"images": [{"glob": "**"}], "frobnicate": 1,
        "authorities": [{"name": "a", "key": {"secretRef": {"name": "release"}}}]}),
    );
    client.becomes(&reference, State::Untrusted);
    let status = world.home.larder(["status", &reference, "--output", "json"]).exits(3).json();
    assert!(has_reason(&status, "unsupported"), "{status}");
    client.trust_becomes("settled", 1, 1);
    // An unknown field in a key's file is one.
    trust.key_scope("release", &json!({"fro": ["**"]}));
    harness::eventually("a fault", || (client.trust_condition() == "faulty").then_some(()));
}

#[test]
fn dry_run_lists_what_would_change_and_changes_nothing() {
    let (world, release, reference) = signed();
    world.home.trust().key("release", &release);
    let client = world.daemon.client();
    client.becomes(&reference, State::Verified);
    // An answer may be ahead of its telling: the pull, its verdict, the key, and what came of it.
    let seq = 4;
    harness::eventually("it is told", || (client.status().seq == seq).then_some(()));
    let output = world.home.larder(["trust", "remove", "release", "--dry-run"]).exits(0);
    assert!(output.stdout.contains("1.0") && output.stdout.contains("untrusted"), "{}", output.stdout);
    assert_eq!((client.state(&reference), client.status().seq), (State::Verified, seq));
    world.home.larder(["trust", "remove", "nobody"]).exits(1).is_a_clear_error("nobody");
}

#[test]
fn allow_asks_before_it_frees_what_was_rejected() {
    let (world, _, reference) = signed();
    let glob = format!("{}/**", world.registry.host());
    world.home.larder(["trust", "allow", &glob]).exits(1).is_a_clear_error("--yes");
    assert_eq!(world.daemon.client().state(&reference), State::Untrusted);
    world.home.larder(["trust", "allow", &glob, "--yes"]).exits(0);
    world.daemon.client().becomes(&reference, State::Allowed);
    world.home.larder(["status", &reference]).exits(0);
    world.home.larder(["trust", "list"]).exits(0);
}

#[test]
fn what_is_no_key_is_not_added() {
    let world = World::start();
    let file = world.home.write_beside("notakey.txt", "hello");
    world.home.larder(["trust", "add", file.to_str().expect("UTF-8")]).exits(1).is_a_clear_error("notakey.txt").hints();
    world.home.larder(["trust", "add", "/no/such/file.pub"]).exits(1).is_a_clear_error("/no/such/file.pub");
    assert!(
        harness::home::files(&world.home.trust().file("keys"))
            .iter()
            .all(|path| path.extension().is_none_or(|ext| ext != "pub"))
    );
}

#[test]
fn a_denied_digest_is_denied_whatever_else_holds() {
    let (world, release, reference) = signed();
    let client = world.daemon.client();
    world.home.trust().key("release", &release);
    client.becomes(&reference, State::Verified);
    let digest = Image::small("1.0").digest().to_string();
    world.home.trust().deny(&json!({"digests": [{"digest": digest, "reason": "recalled"}]}));
    client.becomes(&reference, State::Denied);
    world.daemon.http().blob(&world.served(), &Image::small("1.0").top_layer()).is(403);
    fs::remove_file(world.home.trust().file("deny.yaml")).expect("as before");
    client.becomes(&reference, State::Verified);
}

#[test]
fn a_validity_that_ends_is_told_when_it_ends() {
    let (world, release, reference) = signed();
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    world.home.trust().key_scope("release", &json!({"validFor": {"end": end.to_string()}}));
    world.home.trust().key("release", &release);
    world.daemon.client().becomes(&reference, State::Verified);
    let (watch, _) = Watch::start_complete(&world.home);
    watch.change(&Image::small("1.0").digest().to_string(), "revoked");
}

#[test]
fn a_restart_begins_with_the_last_set() {
    let (world, release, reference) = signed();
    world.home.trust().key("release", &release);
    world.daemon.client().becomes(&reference, State::Verified);
    let World { registry, home, daemon } = world;
    daemon.kill();
    fs::rename(home.trust().path(), home.beside("away")).expect("a rename");
    let daemon = home.start();
    assert_eq!(daemon.client().state(&reference), State::Pending, "a missing folder is not \"no keys\"");
    fs::rename(home.beside("away"), home.trust().path()).expect("a rename back");
    daemon.client().becomes(&reference, State::Verified);
    drop(registry);
}
