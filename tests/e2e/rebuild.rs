//! `index/` and `snapshot/` are views: they can be removed, and nothing is lost.

use std::fs;

use harness::fixtures::{Layout, public_key, repositories};
use harness::{Home, Signer};
use larder_proto::v1::State;

use crate::world::World;

fn remove_views(home: &Home) {
    for folder in ["index", "snapshot"] {
        fs::remove_dir_all(home.path().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    }
}

/// Everything that the client says about these, as JSON.
#[track_caller]
fn all_answers(home: &Home, references: &[String]) -> Vec<(String, String)> {
    let mut answers = vec![("ls".to_owned(), home.larder(["ls", "--output", "json"]).exits(0).stdout)];
    answers.push(("log".to_owned(), home.larder(["log", "--output", "json"]).exits(0).stdout));
    for reference in references {
        for verb in ["show", "status", "explain", "log"] {
            let output = home.larder([verb, reference, "--output", "json"]);
            assert!(!output.stdout.is_empty(), "{verb} {reference}: {}", output.stderr);
            answers.push((format!("{verb} {reference}"), output.stdout));
        }
    }
    answers
}

#[test]
fn answers_are_byte_equal_after_a_rebuild() {
    let world = World::start();
    world.home.trust().write("keys/p256.pub", public_key("p256.pub"));
    world.home.trust().write("keys/rsa.pub", public_key("imp-rsa2048.pub"));
    world.daemon.client().trust_becomes("settled", 2, 0);
    let mut references = Vec::new();
    for repository in repositories() {
        let layout = Layout::open(&repository);
        layout.load_into(&world.registry, &repository);
        for tag in layout.subjects() {
            let reference = world.registry.reference(&repository, &tag);
            // Some with all platforms, some with what is left out.
            let platform = if references.len() % 2 == 0 { "all" } else { "linux/amd64" };
            let output = world.home.larder(["pull", "--platform", platform, &reference]);
            assert_eq!(output.code, 0, "{reference}: {}", output.stderr);
            references.push(reference);
        }
    }
    // History with more than one chapter.
    world.home.trust().remove_key("rsa");
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.home.trust().write("keys/other.pub", public_key("other.pub"));
    world.daemon.client().trust_becomes("settled", 2, 0);
    let World { registry, home, daemon } = world;
    assert!(daemon.stop().success());

    let daemon = home.start();
    let before = all_answers(&home, &references);
    assert!(daemon.stop().success());
    remove_views(&home);
    let daemon = home.start();
    harness::eventually("the rebuilt index", || daemon.client().status().rebuild.is_none().then_some(()));
    let after = all_answers(&home, &references);
    for ((what, before), (_, after)) in before.iter().zip(&after) {
        assert_eq!(before, after, "{what}");
    }
    assert_eq!(before.len(), after.len());
    // And without a stop that writes a snapshot.
    daemon.kill();
    remove_views(&home);
    let daemon = home.start();
    harness::eventually("the rebuilt index", || daemon.client().status().rebuild.is_none().then_some(()));
    assert_eq!(before, all_answers(&home, &references));
    drop(registry);
}

#[test]
fn look_ups_by_tag_are_pending_while_it_rebuilds() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let (by_tag, by_digest) = (world.reference("1.0"), world.registry.at(crate::world::APP, &image.digest()));
    let served = world.served();
    let World { registry, home, daemon } = world;
    assert!(daemon.stop().success());
    remove_views(&home);
    let daemon = home.launch().env("LARDER_SLOW_REBUILD_MS", "5000").start();
    let client = daemon.client();
    let progress = client.status().rebuild.expect("it says how far it is");
    assert!(progress.total > 0);
    match client.query(&by_tag) {
        Err(error) => assert_eq!(error.reason, "rebuilding"),
        Ok(verdict) => assert_eq!(verdict.state(), State::Pending),
    }
    home.larder(["status", &by_tag]).exits(4);
    let status = home.larder(["status", &by_tag, "--output", "json"]).exits(4).json();
    assert_eq!((&status["state"], &status["reasons"][0]["code"]), (&"pending".into(), &"rebuilding".into()));
    home.larder(["verify", &by_tag]).exits(1);
    // A verdict by digest needs no index.
    client.becomes(&by_digest, State::Verified);
    let answer = daemon.http().manifest(&served, "1.0");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(!answer.header("retry-after").is_empty());
    harness::eventually("the rebuilt index", || client.status().rebuild.is_none().then_some(()));
    client.becomes(&by_tag, State::Verified);
    home.larder(["status", &by_tag]).exits(0);
    drop(registry);
}
