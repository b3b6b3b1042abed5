//! Many references in one pull.

use harness::registry::Fault;
use harness::{Image, Signer};
use larder_proto::v1::sync_event::Event;
use larder_proto::v1::{PullRequest, State, SyncEvent};

use crate::world::{APP, World};

#[test]
fn one_that_waits_does_not_hold_up_the_others() {
    let world = World::start();
    for tag in ["slow", "quick", "quicker"] {
        world.upstream(tag, &[]);
    }
    world.registry.fault("GET", "/manifests/slow", Fault::Hold, usize::MAX);
    let references: Vec<_> = ["slow", "quick", "quicker"].map(|tag| world.reference(tag)).into();
    let request = PullRequest { references: references.clone(), ..Default::default() };
    let mut sync = world.daemon.client().sync();
    let ends = |event: &SyncEvent| matches!(event.event, Some(Event::Finished(_) | Event::Failed(_)));
    let ended = harness::block(async {
        let mut stream = sync.pull(request).await.expect("Sync.Pull").into_inner();
        let mut ended: Vec<String> = Vec::new();
        while let Some(event) = stream.message().await.expect("an event") {
            if ends(&event) {
                ended.push(event.reference);
            }
            if ended.len() == 2 {
                world.registry.mend();
            }
        }
        ended
    });
    assert_eq!(ended.len(), 3);
    assert_eq!(ended.last(), Some(&references[0]));
}

#[test]
fn each_is_told_in_a_line_and_all_together_in_one() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.upstream("signed", &[&release]);
    world.upstream("unsigned", &[]);
    let (signed, unsigned) = (world.reference("signed"), world.reference("unsigned"));
    let output = world.home.larder(["pull", &signed, &world.reference("gone"), &unsigned]).exits(1);
    let line =
        |name: &str, state: &str| output.stderr.lines().any(|line| line.starts_with(state) && line.contains(name));
    assert!(line(&signed, "verified") && line(&unsigned, "unsigned"), "{}", output.stderr);
    let output = output.says(&["3 references: 1 unsigned, 1 verified, 1 failed", "gone", "hint"]);
    assert!(output.stderr.lines().count() < 9, "{}", output.stderr);
    let again = world.home.larder(["pull", "--quiet", &signed, &unsigned]).exits(0);
    assert_eq!(again.stdout.lines().count(), 2, "{}", again.stdout);
    assert_eq!(again.stderr, "");
    // JSON keeps the order in which they were asked for.
    let json = world.home.larder(["pull", "--output", "json", &unsigned, &signed]).exits(0).json();
    let names: Vec<_> = json.as_array().expect("an array").iter().map(|one| one["reference"].clone()).collect();
    assert_eq!(names, [unsigned.as_str(), signed.as_str()]);
}

#[test]
fn what_means_the_same_is_pulled_once() {
    let world = World::start();
    let image = world.upstream("latest", &[]);
    let plain = format!("{}/{APP}", world.registry.host());
    let request = PullRequest {
        references: vec![plain.clone(), format!("{plain}:latest"), plain.clone(), "no reference".to_owned()],
        ..Default::default()
    };
    let mut sync = world.daemon.client().sync();
    let ended = harness::block(async {
        let mut stream = sync.pull(request).await.expect("Sync.Pull").into_inner();
        let mut ended = Vec::new();
        while let Some(event) = stream.message().await.expect("an event") {
            match event.event {
                Some(Event::Finished(_)) => ended.push((event.reference, true)),
                Some(Event::Failed(_)) => ended.push((event.reference, false)),
                _ => {}
            }
        }
        ended
    });
    let each = |name: &str, well| ended.iter().filter(|one| **one == (name.to_owned(), well)).count();
    assert_eq!((each(&plain, true), each(&format!("{plain}:latest"), true)), (2, 1), "{ended:?}");
    assert_eq!(each("no reference", false), 1);
    let seen = world.registry.take_seen();
    assert_eq!(seen.iter().filter(|one| one.path.ends_with("/manifests/latest")).count(), 1);
    let layer = image.top_layer().to_string();
    assert_eq!(seen.iter().filter(|one| one.method == "GET" && one.path.contains(&layer)).count(), 1);
}

#[test]
fn references_come_from_a_file() {
    let world = World::start();
    for tag in ["1", "2", "3"] {
        world.upstream(tag, &[]);
    }
    let text = format!("# ours\n{}\n\n  {}   # pinned\n", world.reference("1"), world.reference("2"));
    let list = world.home.write_beside("images.txt", text);
    let list = list.to_str().expect("a path");
    world.home.larder(["pull", "--from", list, &world.reference("3")]).exits(0).says(&["3 references"]);
    assert_eq!(world.daemon.client().list().len(), 3);
    let bad = world.home.write_beside("bad.txt", "a\nb c\n");
    world.home.larder(["pull", "--from", bad.to_str().expect("a path")]).exits(1).is_a_clear_error("line 2").hints();
    let nowhere = world.home.beside("nowhere");
    world.home.larder(["pull", "--from", nowhere.to_str().expect("a path")]).exits(1).is_a_clear_error("nowhere");
    // Standard input is empty here.
    world.home.larder(["pull", "--from", "-"]).exits(2).is_a_clear_error("no reference");
    world.home.larder(["pull"]).exits(2);
}

#[test]
fn all_tags_of_a_repository() {
    let (world, release) = (World::start(), Signer::new("release"));
    for tag in ["1.0", "1.1", "latest"] {
        world.upstream(tag, &[&release]);
    }
    let repository = format!("{}/{APP}", world.registry.host());
    world.home.larder(["pull", "--all-tags", &repository]).exits(0).says(&["3 references"]);
    assert_eq!(world.daemon.client().list().len(), 3, "signature tags are no images");
    assert_eq!(world.daemon.client().state(&world.reference("1.1")), State::Untrusted);
    let none = format!("{}/none/here", world.registry.host());
    world.home.larder(["pull", "-a", &none, &repository]).exits(1).is_a_clear_error("none/here");
    world.home.larder(["pull", "-a", &world.reference("1.0")]).exits(1).is_a_clear_error("1.0");
}

#[test]
fn a_client_that_leaves_ends_all_of_them() {
    let world = World::start();
    let tags: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for tag in &tags {
        world.registry.put(APP, tag, &Image::small(tag));
    }
    world.registry.fault("GET", "/blobs/", Fault::Hold, usize::MAX);
    let arguments = tags.iter().map(|tag| world.reference(tag));
    let mut child = world.home.invoke(std::iter::once("pull".to_owned()).chain(arguments)).spawn();
    harness::eventually("blobs to be asked for", || {
        world.registry.seen().iter().any(|seen| seen.method == "GET" && seen.path.contains("/blobs/")).then_some(())
    });
    child.kill().and_then(|()| child.wait()).expect("the end of larder");
    world.registry.mend();
    // Whoever pulls again is not behind what nobody waits for.
    world.pull("0");
    assert_eq!(world.daemon.client().list().len(), 1, "nothing of what was left is held");
}
