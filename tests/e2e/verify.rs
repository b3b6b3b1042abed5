use harness::{Image, Signer};
use larder_proto::v1::State;

use crate::gate::edit;
use crate::world::{APP, World};

/// The exit codes that cosign's `verify` has.
const ACCEPTED: i32 = 0;
const ERROR: i32 = 1;
const UNSIGNED: i32 = 10;
const NOT_FOUND: i32 = 11;
const UNTRUSTED: i32 = 12;

#[test]
fn exit_codes_are_cosigns() {
    let (world, release, stranger) = (World::start(), Signer::new("release"), Signer::new("stranger"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.upstream("good", &[&release]);
    world.upstream("bad", &[&stranger]);
    world.upstream("bare", &[]);
    for held in [false, true] {
        if held {
            for tag in ["good", "bad", "bare"] {
                world.pull(tag);
            }
        }
        world.home.larder(["verify", &world.reference("good")]).exits(ACCEPTED);
        world.home.larder(["verify", &world.reference("bad")]).exits(UNTRUSTED).is_a_clear_error("bad");
        world.home.larder(["verify", &world.reference("bare")]).exits(UNSIGNED).is_a_clear_error("bare");
        world.home.larder(["verify", &world.reference("gone")]).exits(NOT_FOUND).is_a_clear_error("gone");
    }
    world.home.larder(["verify", "--no-such-flag", "x"]).exits(ERROR);
    world.home.larder(["verify", "NOT A REFERENCE"]).exits(ERROR);
}

#[test]
fn pending_is_1_and_revoked_is_12() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let client = world.daemon.client();
    let revoked = serde_json::json!({"revoked": {"reason": "leaked laptop"}});
    edit(&client, || world.home.trust().key_scope("release", &revoked));
    world.daemon.client().becomes(&world.reference("1.0"), State::Revoked);
    world.home.larder(["verify", &world.reference("1.0")]).exits(UNTRUSTED).says(&["revoked"]);
    edit(&client, || world.home.trust().remove("keys/release.yaml"));
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    std::fs::rename(world.home.trust().path(), world.home.beside("away")).expect("a rename");
    world.daemon.client().becomes(&world.reference("1.0"), State::Pending);
    world.home.larder(["verify", &world.reference("1.0")]).exits(ERROR).says(&["pending"]);
}

#[test]
fn stdout_is_cosigns_json() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[&release]);
    let output = world.home.larder(["verify", &world.reference("1.0")]).exits(ACCEPTED);
    let payloads = output.json();
    let first = &payloads.as_array().expect("an array")[0];
    assert_eq!(first["critical"]["image"]["docker-manifest-digest"], image.digest().to_string());
    assert_eq!(first["critical"]["type"], "cosign container image signature");
    assert!(!output.stderr.contains("transparency log was verified"), "only checks that ran: {}", output.stderr);
}

#[test]
fn what_is_not_held_is_judged_and_not_kept() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[&release]);
    world.registry.take_seen();
    world.home.larder(["verify", &world.reference("1.0")]).exits(ACCEPTED);
    let layer = image.top_layer().to_string();
    assert!(world.registry.take_seen().iter().all(|seen| !seen.path.contains(&layer)), "no layer moves");
    assert!(!world.home.blob(&image.digest()).exists(), "nothing is kept");
    assert!(world.daemon.client().list().is_empty());
}

#[test]
fn what_is_held_is_answered_with_the_registry_gone() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let World { registry, home, daemon } = world;
    drop(registry);
    home.larder(["verify", &reference]).exits(ACCEPTED);
    home.larder(["status", &reference]).exits(0);
    home.larder(["ls"]).exits(0);
    drop(daemon);
}

#[test]
fn the_answer_says_which_checks_ran_and_where_was_looked() {
    use larder_proto::v1::VerifyRequest;
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[&release]);
    let request = VerifyRequest { reference: world.reference("1.0") };
    let mut verification = world.daemon.client().verification();
    let answer = harness::block(verification.verify(request)).expect("Verification.Verify").into_inner();
    let verdict = answer.verdict.expect("a verdict");
    assert_eq!(verdict.state(), State::Verified);
    assert!(!verdict.held);
    assert_eq!(answer.signatures.len(), 1);
    assert_eq!(answer.signatures[0].key, "release");
    assert!(answer.signatures[0].found_at.contains(".sig") || answer.signatures[0].found_at.contains('@'));
    assert!(!answer.checks.is_empty() && !answer.looked_at.is_empty());
    let digest = image.digest();
    assert_eq!(verdict.digest, digest.to_string());
}

#[test]
fn fixtures_of_cosign_in_either_tag_form() {
    use harness::fixtures::{Layout, public_key};
    for (repository, tag, code) in [
        ("single", "1.0.0", ACCEPTED),
        ("single", "2.0.0", UNSIGNED),
        ("multi", "3.0.0", ACCEPTED),
        ("nested", "6.0.0", ACCEPTED),
        ("docker", "4.0.0", UNTRUSTED),
        ("docker", "4.0.0-amd64", ACCEPTED),
        ("replayed", "1", UNTRUSTED),
        ("mixed", "1", ACCEPTED),
        // Bundles; mixed:1 has one by another key, too.
        ("single", "1.1.0", ACCEPTED),
        ("multi-bundle", "3.0.0", ACCEPTED),
        ("artifact", "5.0.0", ACCEPTED),
    ] {
        // A world for each: a signature that is held counts for its digest in every repository, and some share one.
        let world = World::start();
        world.home.trust().write("keys/p256.pub", public_key("p256.pub"));
        world.daemon.client().trust_becomes("settled", 1, 0);
        Layout::open(repository).load_into(&world.registry, repository);
        let reference = world.registry.reference(repository, tag);
        world.home.larder(["verify", &reference]).exits(code);
        world.home.larder(["pull", "--platform", "all", &reference]).exits(0);
        world.home.larder(["verify", &reference]).exits(code);
    }
}

#[test]
fn every_algorithm_of_the_fixtures() {
    use harness::fixtures::{Layout, public_key};
    let world = World::start();
    let layout = Layout::open("keys");
    layout.load_into(&world.registry, "keys");
    for (tag, file) in [
        ("ec-p-384", "imp-ec-P-384.pub"),
        ("ec-p-521", "imp-ec-P-521.pub"),
        ("rsa2048", "imp-rsa2048.pub"),
        ("rsa4096", "imp-rsa4096.pub"),
        ("ed25519", "imp-ed25519.pub"),
        ("sec1", "imp-sec1.pub"),
        ("pkcs1", "imp-pkcs1.pub"),
        ("nopass", "nopass.pub"),
    ] {
        let reference = world.registry.reference("keys", tag);
        world.home.larder(["verify", &reference]).exits(UNTRUSTED);
        world.home.trust().write("keys/one.pub", public_key(file));
        world.daemon.client().trust_becomes("settled", 1, 0);
        world.home.larder(["verify", &reference]).exits(ACCEPTED);
        world.home.trust().remove_key("one");
        world.daemon.client().trust_becomes("settled", 0, 0);
    }
}

#[test]
fn a_signature_of_another_image_does_not_verify() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[]);
    let other = Image::small("another");
    world.registry.put_signature(APP, &image.digest(), &release.signature_of(&other));
    world.home.larder(["verify", &world.reference("1.0")]).exits(UNTRUSTED);
    world.pull("1.0");
    let verdict = world.daemon.client().query(&world.reference("1.0")).expect("held");
    assert_eq!(verdict.state(), State::Untrusted);
    assert!(verdict.reasons.iter().any(|reason| reason.code == "names-another-digest"), "{:?}", verdict.reasons);
    world.home.larder(["verify", &world.reference("1.0")]).exits(UNTRUSTED);
}
