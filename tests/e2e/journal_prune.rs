//! History that is pruned by hand: what still matters stays, and whoever asks for what is gone is told.

use std::fs;

use harness::home::files;
use harness::{Signer, Watch};
use larder_proto::v1::{PruneJournalRequest, State, WatchRequest, watch_request};

use crate::world::World;

const EVERYTHING: [&str; 6] = ["daemon", "prune-journal", "--keep-days", "0", "--keep-bytes", "0"];

/// A world whose journal has several segments.
fn world() -> (World, Signer) {
    let (world, release) = (World::with_config("[journal]\nsegment_bytes = 4096\n"), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    for number in 0..20 {
        world.daemon.http().try_push("team/app", Some(&format!("t{number}")), &image).expect("a push");
    }
    (world, release)
}

#[test]
fn what_matters_stays_and_who_asks_for_the_rest_is_told() {
    let (world, release) = world();
    let before = world.daemon.client().list();
    let plan = world.home.larder([&EVERYTHING[..], &["--dry-run"]].concat()).exits(0);
    assert!(plan.stderr.contains("would be pruned"), "{}", plan.stderr);
    assert_eq!(world.daemon.client().status().journal.expect("the journal").oldest_seq, 1);
    let kept = world.home.larder(["daemon", "prune-journal"]).exits(0);
    assert!(kept.stderr.contains("nothing is to be pruned"), "the default keeps it: {}", kept.stderr);

    let pruned = world.home.larder(EVERYTHING).exits(0);
    assert!(pruned.stderr.contains("pruned history up to #"), "{}", pruned.stderr);
    let oldest = world.daemon.client().status().journal.expect("the journal").oldest_seq;
    assert!(oldest > 1);
    assert_eq!(world.daemon.client().list(), before);
    let status = world.home.larder(["daemon", "status"]).exits(0).stdout;
    assert!(status.contains(&format!("pruned up to #{}", oldest - 1)), "{status}");

    // A cursor that is gone.
    let watched = world.home.larder(["watch", "--from", "1"]).exits(1).is_a_clear_error("pruned");
    assert!(watched.stderr.contains(&format!("--from {}", oldest - 1)), "{}", watched.stderr);
    let request = WatchRequest { from: Some(watch_request::From::After(1)) };
    let mut stream =
        harness::block(world.daemon.client().verification().watch(request)).expect("a stream").into_inner();
    let error = harness::block(stream.message()).expect_err("pruned");
    assert_eq!(error.code(), tonic::Code::OutOfRange);
    let details = String::from_utf8_lossy(error.details());
    assert!(details.contains("cursor-pruned") && details.contains("oldest_seq"), "{details}");
    // From the oldest on, and from anew, it goes.
    let watch = Watch::start(&world.home, &["--from", &(oldest - 1).to_string()]);
    world.home.trust().remove_key("release");
    watch.until("the removal", |line| line["type"] == "change" && line["to"] == "untrusted");
    let (_watch, states) = Watch::start_complete(&world.home);
    assert_eq!(
        states.len(),
        before.iter().map(|one| (&one.repository, &one.digest)).collect::<std::collections::BTreeSet<_>>().len()
    );
    assert!(states.iter().all(|state| state["cause"].is_object()), "{states:?}");

    // The log ends with word of it, and has what was told last.
    let log = world.home.larder(["log", &world.reference("1.0")]).exits(0);
    assert!(log.stdout.contains("untrusted"), "{}", log.stdout);
    assert!(log.stderr.contains("older history, up to #"), "{}", log.stderr);
    let all = world.home.larder(["log", "--output", "json"]).exits(0).stdout;
    assert!(all.contains("\"type\":\"pruned\"") || all.contains("\"type\": \"pruned\""), "{all}");

    // Blobs and journal are enough.
    let World { registry, home, daemon } = world;
    assert!(daemon.stop().success());
    for view in ["index", "snapshot"] {
        fs::remove_dir_all(home.path().join(view)).expect(view);
    }
    let daemon = home.start();
    let client = daemon.client();
    harness::eventually("the index", || client.status().rebuild.is_none().then_some(()));
    assert_eq!(client.status().read_only, "");
    client.becomes(&registry.reference("store/app", "1.0"), State::Untrusted);
    home.trust().key("release", &release);
    client.becomes(&registry.reference("store/app", "1.0"), State::Verified);
    harness::eventually("the list as it was", || (client.list() == before).then_some(()));
}

#[test]
fn damage_behind_the_snapshot_is_found_after_the_start() {
    let (world, _release) = world();
    let reference = world.reference("1.0");
    let World { registry: _registry, home, daemon } = world;
    assert!(daemon.stop().success());
    let path = files(&home.path().join("journal")).remove(1);
    let mut bytes = fs::read(&path).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(&path, &bytes).expect("an edit");
    let daemon = home.start();
    let client = daemon.client();
    let why =
        harness::eventually("the damage to be found", || Some(client.status().read_only).filter(|why| !why.is_empty()));
    assert!(why.contains("journal/") && why.contains("put journal/ back"), "{why}");
    client.becomes(&reference, State::Verified);
    home.larder(EVERYTHING).exits(1).is_a_clear_error("read-only");
    let request = PruneJournalRequest { keep_days: Some(0), keep_bytes: Some(0), dry_run: false };
    assert!(harness::block(client.daemon().prune_journal(request)).is_err());
    assert_eq!(fs::read(&path).expect("the segment"), bytes, "nothing is repaired in silence");
}
