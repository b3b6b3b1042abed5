//! `larder clean`: what is attached to something held is taken away here, verdicts follow, and a pull brings it back.

use harness::{Image, Signer, Watch};
use larder_proto::v1::State;
use serde_json::json;

use crate::world::World;

/// A world that holds a verified image with an SBOM.
fn furnished() -> (World, String) {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    world.daemon.client().becomes(&reference, State::Verified);
    world.home.write_beside("bom.json", "{}");
    world.home.larder(["attach", "sbom", "--sbom", "bom.json", &reference]).exits(0);
    (world, reference)
}

#[test]
fn signatures_go_verdicts_follow_and_a_pull_brings_them_back() {
    let (world, reference) = furnished();
    let (watch, _) = Watch::start_complete(&world.home);
    let digest = Image::small("1.0").digest();
    world.home.larder(["clean", &reference]).exits(1).is_a_clear_error("2 things").says(&["--yes"]);
    assert_eq!(world.daemon.client().state(&reference), State::Verified, "nobody agreed");
    let would = world.home.larder(["clean", "--dry-run", &reference]).exits(0);
    assert!(
        would.stdout.contains("would take away") && would.stdout.contains("nothing was changed"),
        "{}",
        would.stdout
    );
    let cleaned = world.home.larder(["clean", "--type", "signature", "-y", &reference, "--output", "json"]).exits(0);
    let cleaned = cleaned.json();
    assert_eq!(
        (&cleaned["applied"], cleaned["removed"].as_array().map(Vec::len)),
        (&json!(true), Some(1)),
        "{cleaned}"
    );
    assert_eq!(cleaned["removed"][0]["kind"], "signature");
    let (_, line) = watch.until("a change", |line| line["type"] == "change" && line["digest"] == digest.to_string());
    assert_eq!((&line["from"], &line["to"]), (&json!("verified"), &json!("unsigned")), "{line}");
    assert_eq!(line["cause"]["code"], "cleaned", "{line}");
    let sboms = world.home.larder(["sbom", "ls", &reference, "--output", "json"]).exits(0).json();
    assert_eq!(sboms["sboms"].as_array().map(Vec::len), Some(1), "only signatures went: {sboms}");
    world.daemon.http().manifest(&world.served(), &Image::small("1.0").digest_tag(".sig")).is(404);
    let log = world.home.larder(["log", &reference]).exits(0).stdout;
    assert!(log.contains("clean") && log.contains("unsigned"), "{log}");
    let again = world.home.larder(["clean", "--type", "signature", "--force", &reference]).exits(0);
    assert!(again.stderr.contains("nothing of that kind"), "{}", again.stderr);
    let reference_after_restart = |world: &World| world.daemon.client().state(&reference);
    let World { registry, daemon, home } = world;
    daemon.kill();
    let daemon = home.start();
    let world = World { registry, daemon, home };
    assert_eq!(reference_after_restart(&world), State::Unsigned, "it stays away");
    world.pull("1.0");
    world.daemon.client().becomes(&reference, State::Verified);
    world.home.larder(["clean", "--type", "all", "--yes", &reference]).exits(0);
    world.daemon.client().becomes(&reference, State::Unsigned);
    world.home.larder(["sbom", "ls", &reference, "--output", "json"]).exits(0);
    let tree = world.home.larder(["tree", &reference]).exits(0).stdout;
    assert!(!tree.contains(".sbom") && !tree.contains(".sig"), "{tree}");
    world.home.assert_blobs_are_whole();
}

#[test]
fn each_kind_goes_by_itself() {
    let (world, reference) = furnished();
    let count = |kind: &str| {
        let json =
            world.home.larder(["clean", "--dry-run", "--type", kind, &reference, "--output", "json"]).exits(0).json();
        json["removed"].as_array().expect("a list").len()
    };
    assert_eq!(["signature", "attestation", "sbom", "referrer", "all"].map(count), [1, 0, 1, 0, 2]);
    world.home.larder(["clean", "--type", "sbom", "-f", &reference]).exits(0);
    assert_eq!(["signature", "sbom", "all"].map(count), [1, 0, 1]);
    assert_eq!(world.daemon.client().state(&reference), State::Verified, "an SBOM is no signature");
    world.home.larder(["clean", "--type", "nonsense", &reference]).exits(2);
    world.home.larder(["clean", "--yes", &world.reference("none")]).exits(1).is_a_clear_error("not held").hints();
}

#[test]
fn what_is_found_elsewhere_counts_as_before_and_is_named() {
    let (world, reference) = furnished();
    world.home.larder(["tag", &reference, "localhost/team/app:dev"]).exits(0);
    let cleaned = world.home.larder(["clean", "--yes", &reference]).exits(0);
    assert!(cleaned.stderr.contains("localhost/team/app"), "{}", cleaned.stderr);
    assert_eq!(world.daemon.client().state(&reference), State::Verified);
    world.home.larder(["clean", "--yes", "localhost/team/app:dev"]).exits(0);
    world.daemon.client().becomes(&reference, State::Unsigned);
    world.daemon.client().becomes("localhost/team/app:dev", State::Unsigned);
}
