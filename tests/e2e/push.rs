use harness::image::host_architecture;
use harness::registry::Fault;
use harness::{FakeRegistry, Image, Index, Signer};
use larder_core::Digest;
use larder_proto::v1::State;

use crate::world::{APP, World};

#[test]
fn what_is_attached_is_carried() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let target = FakeRegistry::start();
    let destination = target.reference("mirror/app", "stable");
    world.home.larder(["push", &world.reference("1.0"), &destination]).exits(0);
    assert_eq!(target.tag("mirror/app", "stable"), Some(image.digest().to_string()));
    assert!(target.holds("mirror/app", &image.top_layer()));
    let signature = target.tag("mirror/app", &image.digest_tag(".sig")).expect("the signature's tag");
    assert_eq!(Some(signature), world.registry.tag(APP, &image.digest_tag(".sig")));
    // What was pushed is worth as much when it is pulled from there.
    let other = harness::Home::new();
    let daemon = other.start();
    other.trust().key("release", &release);
    daemon.client().trust_becomes("settled", 1, 0);
    other.larder(["pull", "--verified", &destination]).exits(0);
    assert_eq!(daemon.client().state(&destination), State::Verified);
}

#[test]
fn a_second_push_moves_no_blob() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    let target = FakeRegistry::start();
    let destination = target.reference(APP, "1.0");
    world.home.larder(["push", &world.reference("1.0"), &destination]).exits(0);
    target.take_seen();
    world.home.larder(["push", &world.reference("1.0"), &destination]).exits(0);
    let uploads = target.take_seen().iter().filter(|seen| seen.path.contains("/uploads/")).count();
    assert_eq!(uploads, 0);
}

#[test]
fn an_upload_that_fails_for_a_moment_fails_no_push() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    for status in [404, 429, 503] {
        let target = FakeRegistry::start();
        target.fault("PUT", "/blobs/uploads/", Fault::Status(status), 1);
        world.home.larder(["push", &world.reference("1.0"), &target.reference(APP, "1.0")]).exits(0);
        assert_eq!(target.tag(APP, "1.0"), Some(image.digest().to_string()), "{status}");
        assert!(image.blobs().iter().all(|blob| target.holds(APP, &Digest::of(blob))), "{status}");
        let puts = target.seen().iter().filter(|seen| seen.method == "PUT" && seen.path.contains("/uploads/")).count();
        assert_eq!(puts, image.blobs().len() + 1, "{status}");
    }
}

#[test]
fn an_index_with_children_left_out_is_refused_with_a_hint() {
    let world = World::start();
    let foreign = if host_architecture() == "arm64" { "amd64" } else { "arm64" };
    let index = Index::new()
        .child(&Image::new("ours").architecture(host_architecture()).layer("a").build(), "linux", host_architecture())
        .child(&Image::new("theirs").architecture(foreign).layer("b").build(), "linux", foreign)
        .build();
    world.registry.put(APP, "1.0", &index);
    world.pull("1.0");
    let target = FakeRegistry::start();
    let words = ["push", &world.reference("1.0"), &target.reference(APP, "1.0")];
    world.home.larder(words).exits(1).is_a_clear_error("1.0").says(&["--platform all"]);
    assert_eq!(target.tag(APP, "1.0"), None, "nothing half-visible");
    world.home.larder(["pull", "--platform", "all", &world.reference("1.0")]).exits(0);
    world.home.larder(words).exits(0);
    assert_eq!(target.tag(APP, "1.0"), Some(index.digest().to_string()));
}

#[test]
fn the_tag_comes_last() {
    let world = World::start();
    let image = world.upstream("1.0", &[&Signer::new("release")]);
    world.pull("1.0");
    let target = FakeRegistry::start();
    target.fault("PUT", "/blobs/uploads/", Fault::Status(500), usize::MAX);
    target.fault("PATCH", "/blobs/uploads/", Fault::Status(500), usize::MAX);
    let words = ["push", &world.reference("1.0"), &target.reference(APP, "1.0")];
    world.home.larder(words).exits(1).is_a_clear_error(&target.host());
    assert_eq!(target.tag(APP, "1.0"), None);
    target.mend();
    world.home.larder(words).exits(0);
    assert_eq!(target.tag(APP, "1.0"), Some(image.digest().to_string()));
}

#[test]
fn what_is_not_held_cannot_be_pushed() {
    let world = World::start();
    world
        .home
        .larder(["push", "registry.example.org/nothing:1"])
        .exits(1)
        .is_a_clear_error("registry.example.org/nothing:1");
}
