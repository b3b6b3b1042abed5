//! What a second look at unchanged content costs, and what it must not miss.

use std::fs;

use harness::registry::{Fault, Seen};
use harness::{Content, FakeRegistry, Image, Signer};
use larder_core::Digest;
use larder_core::digest::Algorithm;
use larder_core::manifest::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use larder_proto::v1::State;
use serde_json::{Value, json};

use crate::world::{APP, World};

/// How many images are pulled together.
const IMAGES: usize = 12;

/// Images upstream, every third of them signed, and their references.
fn images(world: &World, signer: &Signer) -> (Vec<Content>, Vec<String>) {
    let tags: Vec<String> = (0..IMAGES).map(|number| format!("v{number}")).collect();
    let images = tags.iter().enumerate();
    let images = images.map(|(number, tag)| match number % 3 {
        0 => world.upstream(tag, &[signer]),
        _ => world.upstream(tag, &[]),
    });
    (images.collect(), tags.iter().map(|tag| world.reference(tag)).collect())
}

/// Pulls all in one call; what came of each.
#[track_caller]
fn pull(world: &World, references: &[String]) -> Vec<Value> {
    let arguments = ["pull", "--output", "json"].into_iter().map(str::to_owned).chain(references.iter().cloned());
    let output = world.home.larder(arguments).exits(0);
    output.json().as_array().expect("an array").clone()
}

fn count(seen: &[Seen], method: &str, part: &str) -> usize {
    seen.iter().filter(|one| one.method == method && one.path.contains(part)).count()
}

/// Everything that the store keeps, with when it was last written.
fn files(world: &World) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let all = ["blobs", "journal", "snapshot", "ingest", "quarantine"].map(|name| world.home.path().join(name));
    let all = all.iter().flat_map(|folder| harness::home::files(folder));
    let mut all: Vec<_> = all.map(|file| (file.clone(), written(&file))).collect();
    all.sort();
    all
}

fn written(file: &std::path::Path) -> std::time::SystemTime {
    fs::metadata(file).and_then(|metadata| metadata.modified()).expect("a file of the store")
}

#[test]
fn unchanged_images_cost_one_request_each_and_few_for_all() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.registry.pages_of(100);
    let (_, references) = images(&world, &release);
    pull(&world, &references);
    let before = files(&world);
    world.registry.take_seen();
    let again = pull(&world, &references);
    assert!(again.iter().all(|one| one["seq"] == 0), "{again:?}");
    let seen = world.registry.take_seen();
    let signed = IMAGES.div_ceil(3);
    assert_eq!(count(&seen, "HEAD", "/manifests/v"), IMAGES, "a conditional request a tag");
    assert_eq!(count(&seen, "HEAD", ".sig"), signed, "and a signature tag");
    assert_eq!(count(&seen, "GET", "/tags/list"), 1, "one list");
    assert_eq!(count(&seen, "GET", "/referrers/"), 1, "one answer that there is no API");
    assert_eq!(seen.len(), IMAGES + signed + 2, "{seen:?}");
    assert_eq!(files(&world), before, "nothing was written");
}

#[test]
fn with_the_referrers_api_one_call_a_subject() {
    let mut world = World::start();
    world.registry = FakeRegistry::start_with_referrers();
    world.registry.pages_of(100);
    let (images, references) = images(&world, &Signer::new("release"));
    let sbom = Image::new("sbom").layer("{}").subject(&images[1], "application/spdx+json");
    let sbom = sbom.build_with("application/spdx+json");
    world.registry.put_untagged(APP, &sbom);
    pull(&world, &references);
    assert!(world.home.blob(&sbom.digest()).exists());
    world.registry.take_seen();
    pull(&world, &references);
    let seen = world.registry.take_seen();
    // The SBOM is a subject, too: it may be signed.
    assert_eq!(count(&seen, "GET", "/referrers/"), IMAGES + 1);
    assert_eq!(count(&seen, "GET", "/manifests/") + count(&seen, "GET", "/blobs/"), 0, "{seen:?}");
}

#[test]
fn a_list_of_tags_serves_one_call_only() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.registry.pages_of(100);
    let (images, references) = images(&world, &release);
    pull(&world, &references);
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    assert_eq!(world.daemon.client().state(&references[1]), State::Unsigned);
    world.sign_upstream(&images[1], &[&release]);
    pull(&world, &references);
    assert_eq!(world.daemon.client().state(&references[1]), State::Verified);
    // So does the answer that there is no referrers API.
    let sbom = Image::new("sbom").layer("{}").subject(&images[2], "application/spdx+json");
    let sbom = sbom.build_with("application/spdx+json");
    world.registry.put_untagged(APP, &sbom);
    let mut descriptor = sbom.descriptor();
    descriptor["artifactType"] = "application/spdx+json".into();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]});
    world.registry.put(APP, &images[2].digest_tag(""), &Content::of(OCI_INDEX, &index, Vec::new()));
    pull(&world, &references);
    assert!(world.home.blob(&sbom.digest()).exists());
}

#[test]
fn a_list_that_hides_signatures_loses_none_that_were_found_before() {
    let (world, old, new) = (World::start(), Signer::new("old"), Signer::new("new"));
    world.registry.pages_of(100);
    let (images, references) = images(&world, &old);
    pull(&world, &references);
    let tags: Vec<_> = (0..IMAGES).map(|number| format!("v{number}")).collect();
    let list = json!({"name": APP, "tags": tags}).to_string();
    world.registry.fault("GET", "/tags/list", Fault::Bytes(list.into()), usize::MAX);
    world.sign_upstream(&images[0], &[&old, &new]);
    pull(&world, &references);
    world.home.trust().key("new", &new);
    world.daemon.client().becomes(&references[0], State::Verified);
}

#[test]
fn a_registry_that_gives_no_list_is_asked_by_name() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.registry.fault("GET", "/tags/list", Fault::Status(403), usize::MAX);
    let (_, references) = images(&world, &release);
    let all = pull(&world, &references);
    let verified = all.iter().filter(|one| one["verdict"]["state"] == "verified").count();
    assert_eq!(verified, IMAGES.div_ceil(3));
}

#[test]
fn a_referrers_call_that_fails_fails_the_pull() {
    let mut world = World::start();
    world.registry = FakeRegistry::start_with_referrers();
    world.upstream("1.0", &[]);
    world.registry.fault("GET", "/referrers/", Fault::Status(403), usize::MAX);
    world.home.larder(["pull", &world.reference("1.0")]).exits(1).is_a_clear_error("referrers");
    assert_eq!(world.daemon.client().list().len(), 0, "nothing is half there");
}

/// A descriptor by SHA-512.
fn describe(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::with(Algorithm::Sha512, bytes).to_string(), "size": bytes.len()})
}

#[test]
fn sha512_content_is_kept_under_its_own_digests() {
    let world = World::start();
    let (config, layer) = (b"{\"os\":\"linux\"}".to_vec(), vec![7; 5000]);
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": describe("application/vnd.oci.image.config.v1+json", &config),
        "layers": [describe("application/vnd.oci.image.layer.v1.tar", &layer)]});
    let manifest = serde_json::to_vec_pretty(&manifest).expect("JSON");
    let digest_of = |bytes: &[u8]| Digest::with(Algorithm::Sha512, bytes);
    for blob in [&config, &layer] {
        world.registry.put_blob(APP, &digest_of(blob).to_string(), blob.clone().into());
    }
    let digest = digest_of(&manifest);
    world.registry.put_manifest_as(APP, Some("1.0"), &digest.to_string(), OCI_MANIFEST, manifest.clone().into());
    world.pull("1.0");
    for (digest, bytes) in [(digest, &manifest), (digest_of(&config), &config), (digest_of(&layer), &layer)] {
        assert!(world.home.blob(&digest).ends_with(format!("blobs/sha512/{}", digest.hex())));
        assert_eq!(&fs::read(world.home.blob(&digest)).expect("held"), bytes);
    }
    let by_digest = world.registry.at(APP, &digest);
    world.home.larder(["pull", &by_digest]).exits(0);
    assert_eq!(world.daemon.client().query(&by_digest).expect("held").digest, digest.to_string());
    world.home.assert_blobs_are_whole();
    // Other bytes under the right name are refused as ever.
    world.registry.put_blob(APP, &digest_of(b"other").to_string(), "wrong".into());
    let other = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": describe("c", b"other"), "layers": []});
    let other = Content::of(OCI_MANIFEST, &other, Vec::new());
    world.registry.put(APP, "other", &other);
    world.home.larder(["pull", &world.reference("other")]).exits(1).is_a_clear_error("sha512");
    assert!(!world.home.blob(&digest_of(b"other")).exists());
}

#[test]
fn schema_1_is_refused_by_name() {
    let world = World::start();
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let text = r#"{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[],"history":[],"signatures":[]}"#;
    world.registry.put_manifest(APP, Some("old"), old, text.into());
    world.home.larder(["pull", &world.reference("old")]).exits(1).is_a_clear_error("manifest.v1");
    world.registry.put_manifest(APP, Some("claims"), DOCKER_MANIFEST, format!("{text} ").into());
    world.home.larder(["pull", &world.reference("claims")]).exits(1).is_a_clear_error("schemaVersion");
    assert_eq!(world.daemon.client().list().len(), 0);
}

#[test]
fn a_tag_that_moves_during_its_pull_is_what_it_was_at_first() {
    let world = World::start();
    let first = world.upstream("1.0", &[]);
    world.registry.fault("GET", &format!("/blobs/{}", first.top_layer()), Fault::Hold, usize::MAX);
    let child = world.home.invoke(["pull", &world.reference("1.0")]).spawn();
    harness::eventually("the layer to be asked for", || {
        let layer = first.top_layer().to_string();
        world.registry.seen().iter().any(|seen| seen.method == "GET" && seen.path.contains(&layer)).then_some(())
    });
    let second = Image::small("the tag moved");
    world.registry.put(APP, "1.0", &second);
    world.registry.mend();
    let output = child.wait_with_output().expect("the end of larder");
    assert!(output.status.success(), "{output:?}");
    let held = world.daemon.client().query(&world.reference("1.0")).expect("held");
    assert_eq!(held.digest, first.digest().to_string(), "one image, not parts of two");
    assert!(!world.home.blob(&second.top_layer()).exists());
    world.pull("1.0");
    let held = world.daemon.client().query(&world.reference("1.0")).expect("held");
    assert_eq!(held.digest, second.digest().to_string());
}

#[test]
fn referrers_of_referrers_and_of_platforms_come_along() {
    let mut world = World::start();
    world.registry = FakeRegistry::start_with_referrers();
    let ours = Image::new("ours").architecture(harness::image::host_architecture()).layer("ours").build();
    let index = harness::Index::new().child(&ours, "linux", harness::image::host_architecture()).build();
    world.registry.put(APP, "1.0", &index);
    let attach = |name: &'static str, subject: &Content| {
        let one = Image::new(name).layer(name).subject(subject, "application/spdx+json");
        let one = one.build_with("application/spdx+json");
        world.registry.put_untagged(APP, &one);
        one
    };
    let of_child = attach("SBOM of the platform", &ours);
    let of_index = attach("SBOM of the index", &index);
    let of_sbom = attach("SBOM of the SBOM", &of_index);
    // A referrer may be an index; it holds nothing that is kept.
    let listed = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": index.descriptor()});
    world.registry.put_untagged(APP, &Content::of(OCI_INDEX, &listed, Vec::new()));
    world.home.larder(["pull", "--verbose", &world.reference("1.0")]).exits(0).says(&["an index"]);
    for one in [&of_child, &of_index, &of_sbom] {
        assert!(world.home.blob(&one.digest()).exists(), "{}", one.digest());
    }
}
