use harness::Signer;
use harness::cli::has_reason;

use crate::world::World;

#[test]
fn one_object_for_one_reference_and_the_exit_code_of_its_state() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let rejected = world.home.larder(["status", &reference, "--output", "json"]).exits(3).json();
    assert_eq!(rejected["state"], "untrusted");
    assert_eq!(rejected["digest"], image.digest().to_string());
    assert_eq!(rejected["repository"], reference.trim_end_matches(":1.0"));
    assert!(has_reason(&rejected, "no-policy"), "{rejected}");
    world.home.trust().key("release", &release);
    world.daemon.client().becomes(&reference, larder_proto::v1::State::Verified);
    let accepted = world.home.larder(["status", &reference, "--output", "json"]).exits(0).json();
    assert_eq!(accepted["state"], "verified");
    assert!(accepted["reasons"].is_array());
}

#[test]
fn the_summary_exits_3_where_a_subject_that_is_held_is_rejected() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.larder(["status"]).exits(0);
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    world.home.larder(["status"]).exits(3);
    world.home.larder(["status", "--output", "json"]).exits(3).json();
    world.home.trust().key("release", &release);
    world.daemon.client().becomes(&world.reference("1.0"), larder_proto::v1::State::Verified);
    world.home.larder(["status"]).exits(0);
    let summary = world.daemon.client().summary();
    assert_eq!((summary.subjects, summary.not_accepted_total, summary.keys), (1, 0, 1));
}

#[test]
fn a_missing_trust_folder_is_pending_and_exit_4() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    std::fs::rename(world.home.trust().path(), world.home.beside("away")).expect("a rename");
    world.daemon.client().becomes(&reference, larder_proto::v1::State::Pending);
    let pending = world.home.larder(["status", &reference, "--output", "json"]).exits(4).json();
    assert_eq!(pending["state"], "pending");
    std::fs::rename(world.home.beside("away"), world.home.trust().path()).expect("a rename back");
    world.daemon.client().becomes(&reference, larder_proto::v1::State::Verified);
}

#[test]
fn what_is_not_held_is_an_error_and_no_verdict() {
    let world = World::start();
    world
        .home
        .larder(["status", "registry.example.org/nothing:1"])
        .exits(1)
        .is_a_clear_error("registry.example.org/nothing:1");
    let error = world.daemon.client().query("registry.example.org/nothing:1").expect_err("not held");
    assert_eq!(error.reason, "not-held");
    let error = world.daemon.client().query("UPPER/case:1").expect_err("malformed");
    assert_eq!(error.reason, "invalid-reference");
}

#[test]
fn a_bare_digest_is_accepted_only_where_all_repositories_agree() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.registry.put("other/app", "1.0", &image);
    world.home.trust().key("release", &release);
    world
        .home
        .trust()
        .key_scope("release", &serde_json::json!({"for": [format!("{}/store/**", world.registry.host())]}));
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.pull("1.0");
    let digest = image.digest().to_string();
    world.home.larder(["status", &digest]).exits(0);
    world.home.larder(["pull", &world.registry.reference("other/app", "1.0")]).exits(0);
    world.home.larder(["status", &digest]).exits(3);
}

#[test]
fn explain_names_the_key_and_what_failed() {
    let (world, release, stranger) = (World::start(), Signer::new("release"), Signer::new("stranger"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.upstream("1.0", &[&stranger]);
    world.pull("1.0");
    let talk = world.home.larder(["explain", &world.reference("1.0")]);
    assert!(talk.stdout.contains("untrusted") && talk.stdout.contains("release"), "{}", talk.stdout);
    world.home.larder(["explain", &world.reference("1.0"), "--output", "json"]).json();
}
