use harness::image::host_architecture;
use harness::registry::{Auth, Fault};
use harness::{Content, Image, Index, Signer};
use larder_core::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX};
use larder_proto::v1::State;
use serde_json::json;

use crate::world::{APP, World};

/// An architecture that this machine does not have.
fn foreign_architecture() -> &'static str {
    if host_architecture() == "arm64" { "amd64" } else { "arm64" }
}

fn two_platforms(name: &str) -> (Content, Content, Content) {
    let ours = Image::new(&format!("{name} ours")).architecture(host_architecture()).layer(name.to_owned()).build();
    let theirs = Image::new(&format!("{name} theirs")).architecture(foreign_architecture()).layer("x").build();
    let index =
        Index::new().child(&ours, "linux", host_architecture()).child(&theirs, "linux", foreign_architecture()).build();
    (index, ours, theirs)
}

#[test]
fn an_image_comes_with_its_signature() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.home.larder(["pull", &world.reference("1.0")]).exits(0).says(&["untrusted"]);
    assert!(world.home.blob(&image.digest()).exists());
    assert!(world.home.blob(&image.top_layer()).exists());
    assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Untrusted);
    world.home.trust().key("release", &release);
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    world.home.assert_blobs_are_whole();
}

#[test]
fn an_image_without_signatures_is_unsigned_and_the_pull_succeeds() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.home.larder(["pull", &world.reference("1.0")]).exits(0).says(&["unsigned"]);
    world.home.larder(["status", &world.reference("1.0")]).exits(3);
}

#[test]
fn a_pull_by_digest_and_by_tag() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    let by_digest = world.registry.at(APP, &image.digest());
    world.home.larder(["pull", &by_digest]).exits(0);
    let list = world.daemon.client().list();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].tag, "");
    world.pull("1.0");
    let list = world.daemon.client().list();
    assert!(
        list.iter().any(|artifact| artifact.tag == "1.0" && artifact.digest == image.digest().to_string()),
        "{list:?}"
    );
}

#[test]
fn an_index_takes_the_hosts_platform_and_both_signatures() {
    let (world, release) = (World::start(), Signer::new("release"));
    let (index, ours, theirs) = two_platforms("index");
    world.registry.put(APP, "1.0", &index);
    world.sign_upstream(&index, &[&release]);
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.pull("1.0");
    assert!(world.home.blob(&ours.digest()).exists());
    assert!(!world.home.blob(&theirs.digest()).exists(), "the other platform was not asked for");
    let client = world.daemon.client();
    assert_eq!(client.state(&world.reference("1.0")), State::Verified);
    let child = client.query(&world.registry.at(APP, &ours.digest())).expect("the child is held");
    assert_eq!(child.state(), State::Verified);
    assert!(child.reasons.iter().any(|reason| reason.code == "via-index"), "{:?}", child.reasons);
    world.home.larder(["pull", "--platform", "all", &world.reference("1.0")]).exits(0);
    assert!(world.home.blob(&theirs.digest()).exists());
}

#[test]
fn a_platform_can_be_named_and_one_that_is_not_there_is_an_error() {
    let world = World::start();
    let (index, ours, theirs) = two_platforms("named");
    world.registry.put(APP, "1.0", &index);
    let platform = format!("linux/{}", foreign_architecture());
    world.home.larder(["pull", "--platform", &platform, &world.reference("1.0")]).exits(0);
    assert!(world.home.blob(&theirs.digest()).exists());
    assert!(!world.home.blob(&ours.digest()).exists());
    world
        .home
        .larder(["pull", "--platform", "plan9/mips", &world.reference("1.0")])
        .exits(1)
        .is_a_clear_error("plan9/mips");
}

#[test]
fn nested_indexes_are_descended() {
    let world = World::start();
    let (inner, ours, _) = two_platforms("nested");
    let outer = Index::new().entry(&inner, inner.descriptor()).build();
    world.registry.put(APP, "1.0", &outer);
    world.pull("1.0");
    assert!(world.home.blob(&inner.digest()).exists());
    assert!(world.home.blob(&ours.digest()).exists());
}

#[test]
fn attestation_children_of_a_kept_child_come_along() {
    let world = World::start();
    let ours = Image::new("kept").architecture(host_architecture()).layer("kept").build();
    let theirs = Image::new("left").architecture(foreign_architecture()).layer("left").build();
    let attest = |name: &str, of: &Content| {
        let content = Image::new(name).layer(name.to_owned()).build_with("application/vnd.in-toto+json");
        let mut descriptor = content.descriptor();
        descriptor["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        descriptor["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": of.digest().to_string()});
        (content, descriptor)
    };
    let (kept, kept_descriptor) = attest("attestation of ours", &ours);
    let (left, left_descriptor) = attest("attestation of theirs", &theirs);
    let index = Index::new()
        .child(&ours, "linux", host_architecture())
        .child(&theirs, "linux", foreign_architecture())
        .entry(&kept, kept_descriptor)
        .entry(&left, left_descriptor)
        .build();
    world.registry.put(APP, "1.0", &index);
    world.pull("1.0");
    assert!(world.home.blob(&kept.digest()).exists());
    assert!(!world.home.blob(&left.digest()).exists());
}

#[test]
fn docker_manifests_keep_their_bytes() {
    let world = World::start();
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
    let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": harness::image::describe("application/vnd.docker.container.image.v1+json", &config), "layers": []});
    let indented = serde_json::to_vec_pretty(&manifest).expect("JSON");
    let image = Content::of_bytes(DOCKER_MANIFEST, indented.clone(), vec![config.into()]);
    let mut descriptor = image.descriptor();
    descriptor["platform"] = json!({"os": "linux", "architecture": host_architecture()});
    let list = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [descriptor]});
    world.registry.put_untagged(APP, &image);
    let list_bytes = serde_json::to_vec_pretty(&list).expect("JSON");
    world.registry.put_manifest(APP, Some("docker"), DOCKER_LIST, list_bytes.clone().into());
    world.pull("docker");
    let held = std::fs::read(world.home.blob(&image.digest())).expect("the manifest");
    assert_eq!(held, indented);
    assert!(world.home.blob(&larder_core::Digest::of(&list_bytes)).exists());
}

#[test]
fn referrers_by_the_api_by_the_fallback_tag_and_by_cosigns_tags_are_merged() {
    let release = Signer::new("release");
    let mut world = World::start();
    for with_api in [false, true] {
        if with_api {
            world.registry = harness::FakeRegistry::start_with_referrers();
        }
        let name = format!("referred {with_api}");
        let image = Image::small(&name);
        let sbom =
            Image::new("sbom").layer("{}").subject(&image, "application/spdx+json").build_with("application/spdx+json");
        world.registry.put(APP, "1.0", &image);
        world.registry.put_untagged(APP, &sbom);
        let mut descriptor = sbom.descriptor();
        descriptor["artifactType"] = "application/spdx+json".into();
        let fallback = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]});
        world.registry.put(APP, &image.digest_tag(""), &Content::of(OCI_INDEX, &fallback, Vec::new()));
        world.sign_upstream(&image, &[&release]);
        world.home.larder(["pull", &world.reference("1.0")]).exits(0);
        assert!(world.home.blob(&sbom.digest()).exists(), "the SBOM came (referrers API: {with_api})");
        assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Untrusted, "the signature came");
        assert!(world.home.blob(&image.digest()).exists());
    }
}

#[test]
fn a_second_pull_moves_nothing_and_finds_a_new_signature() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    world.registry.take_seen();
    world.pull("1.0");
    let moved = |seen: Vec<harness::registry::Seen>| -> Vec<String> {
        let held = [image.digest().to_string()];
        let is_get = |request: &&harness::registry::Seen| request.method == "GET";
        let moves = |path: &str| {
            path.contains("/blobs/")
                || held.iter().any(|digest| path.contains(digest.as_str()) && path.contains("/manifests/"))
        };
        seen.iter().filter(is_get).filter(|request| moves(&request.path)).map(|request| request.path.clone()).collect()
    };
    assert_eq!(moved(world.registry.take_seen()), Vec::<String>::new());
    world.sign_upstream(&image, &[&release]);
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.pull("1.0");
    assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Verified);
}

#[test]
fn an_overwritten_signature_tag_loses_no_signature() {
    let (world, old, new) = (World::start(), Signer::new("old"), Signer::new("new"));
    let image = world.upstream("1.0", &[&old]);
    world.pull("1.0");
    world.sign_upstream(&image, &[&new]);
    world.pull("1.0");
    let client = world.daemon.client();
    world.home.trust().key("old", &old);
    client.becomes(&world.reference("1.0"), State::Verified);
}

#[test]
fn a_tag_that_moved_upstream_moves_here() {
    let world = World::start();
    let first = world.upstream("latest", &[]);
    world.pull("latest");
    let second = Image::small("another latest");
    world.registry.put(APP, "latest", &second);
    world.pull("latest");
    let client = world.daemon.client();
    let verdict = client.query(&world.reference("latest")).expect("held");
    assert_eq!(verdict.digest, second.digest().to_string());
    assert!(client.query(&world.registry.at(APP, &first.digest())).is_ok(), "the first stays");
}

#[test]
fn with_verified_a_rejected_image_is_exit_3_and_nothing_of_it_is_kept() {
    let (world, release, stranger) = (World::start(), Signer::new("release"), Signer::new("stranger"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let bad = world.upstream("bad", &[&stranger]);
    let good = world.upstream("good", &[&release]);
    world.registry.take_seen();
    world.home.larder(["pull", "--verified", &world.reference("bad")]).exits(3).says(&["untrusted"]);
    let layer = bad.top_layer().to_string();
    assert!(world.registry.take_seen().iter().all(|seen| !seen.path.contains(&layer)), "judged before layers move");
    assert_eq!(world.daemon.client().list().len(), 0);
    assert!(!world.home.blob(&bad.top_layer()).exists());
    world.home.larder(["pull", "--verified", &world.reference("good")]).exits(0);
    assert!(world.home.blob(&good.top_layer()).exists());
}

#[test]
fn a_failure_of_one_reference_does_not_stop_the_rest() {
    let (world, release, stranger) = (World::start(), Signer::new("release"), Signer::new("stranger"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let (good, bad, gone) = (world.reference("good"), world.reference("bad"), world.reference("gone"));
    world.upstream("good", &[&release]);
    world.upstream("bad", &[&stranger]);
    world.home.larder(["pull", &gone, &good]).exits(1).says(&["gone"]);
    assert_eq!(world.daemon.client().state(&good), State::Verified);
    world.home.larder(["pull", "--verified", &bad, &good]).exits(3);
    // An error weighs more than a rejection: it must not be hidden by one.
    world.home.larder(["pull", "--verified", &gone, &bad, &good]).exits(1);
}

#[test]
fn passwords_and_tokens() {
    for bearer in [false, true] {
        let registry = harness::FakeRegistry::start();
        let (user, password) = ("someone".to_owned(), "s3cret".to_owned());
        registry.require(if bearer { Auth::Bearer(user, password) } else { Auth::Basic(user, password) });
        let image = Image::small("private");
        registry.put(APP, "1.0", &image);
        let home = harness::Home::new();
        let file = home.secret_beside("password", "s3cret\n");
        let entry = |path: &std::path::Path| {
            format!("[registry.\"{}\"]\nusername = \"someone\"\npassword_file = {path:?}\n", registry.host())
        };
        let reference = registry.reference(APP, "1.0");
        let daemon = home.start();
        home.larder(["pull", &reference]).exits(1).is_a_clear_error(&registry.host()).hints();
        daemon.kill();
        home.configure(&entry(&file));
        let daemon = home.start();
        home.larder(["pull", &reference]).exits(0);
        let sent = registry.take_seen().iter().filter_map(|seen| seen.authorization.clone()).count();
        assert!(sent > 0, "credentials were sent");
        daemon.kill();
        home.configure(&entry(&home.secret_beside("wrong", "wrong")));
        let daemon = home.start();
        registry.put(APP, "2.0", &Image::small("private too"));
        home.larder(["pull", &registry.reference(APP, "2.0")]).exits(1).is_a_clear_error(&registry.host());
        daemon.kill();
    }
}

#[test]
fn credentials_do_not_follow_a_redirect() {
    let (registry, elsewhere) = (harness::FakeRegistry::start(), harness::FakeRegistry::start());
    let image = Image::small("redirected");
    registry.require(Auth::Basic("someone".to_owned(), "s3cret".to_owned()));
    registry.put(APP, "1.0", &image);
    elsewhere.put_untagged(APP, &image);
    let layer = image.top_layer();
    let place = format!("http://{}/v2/{APP}/blobs/{layer}", elsewhere.host());
    registry.fault("GET", &format!("/blobs/{layer}"), Fault::Redirect(place), usize::MAX);
    let home = harness::Home::new();
    let file = home.secret_beside("password", "s3cret");
    home.configure(&format!("[registry.\"{}\"]\nusername = \"someone\"\npassword_file = {file:?}\n", registry.host()));
    let _daemon = home.start();
    home.larder(["pull", &registry.reference(APP, "1.0")]).exits(0);
    let there = elsewhere.take_seen();
    assert!(!there.is_empty(), "the redirect was followed");
    assert!(there.iter().all(|seen| seen.authorization.is_none()), "{there:?}");
}

#[test]
fn a_pull_that_is_stopped_leaves_everything_as_before() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.registry.fault("GET", &format!("/blobs/{}", image.top_layer()), Fault::Hold, usize::MAX);
    let mut child = world.home.invoke(["pull", &world.reference("1.0")]).spawn();
    harness::eventually("the layer to be asked for", || {
        let layer = image.top_layer().to_string();
        world.registry.seen().iter().any(|seen| seen.method == "GET" && seen.path.contains(&layer)).then_some(())
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("Ctrl-C");
    let status = child.wait().expect("the end of larder");
    assert!(!status.success());
    assert_eq!(world.daemon.client().list().len(), 0);
    world.registry.mend();
    world.pull("1.0");
    assert_eq!(world.daemon.client().list().len(), 1);
}

#[test]
fn the_progress_stream_counts_bytes_and_ends_in_a_verdict() {
    use larder_proto::v1::PullRequest;
    use larder_proto::v1::sync_event::Event;
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    let request = PullRequest { references: vec![world.reference("1.0")], ..Default::default() };
    let mut sync = world.daemon.client().sync();
    let events = harness::block(async {
        let mut stream = sync.pull(request).await.expect("Sync.Pull").into_inner();
        let mut events = Vec::new();
        while let Some(event) = stream.message().await.expect("an event") {
            events.push(event);
        }
        events
    });
    assert!(events.iter().any(
        |event| matches!(&event.event, Some(Event::Resolved(resolved)) if resolved.digest == image.digest().to_string())
    ));
    let Some(Event::Finished(finished)) = events.last().and_then(|event| event.event.clone()) else {
        panic!("the stream ends in `finished`: {events:?}")
    };
    let bytes: usize = image.blobs().iter().map(bytes::Bytes::len).sum::<usize>() + image.root().bytes.len();
    assert!(finished.bytes_moved >= bytes as u64, "{} of {bytes}", finished.bytes_moved);
    assert_eq!(finished.verdict.map(|verdict| verdict.state()), Some(State::Unsigned));
    assert!(finished.seq > 0);
}

#[test]
fn all_fixtures_can_be_pulled() {
    use harness::fixtures::{Layout, repositories};
    let world = World::start();
    for repository in repositories() {
        let layout = Layout::open(&repository);
        layout.load_into(&world.registry, &repository);
        for tag in layout.subjects() {
            world.home.larder(["pull", "--platform", "all", &world.registry.reference(&repository, &tag)]).exits(0);
        }
    }
    world.home.assert_blobs_are_whole();
}
