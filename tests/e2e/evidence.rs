//! Where cosign keeps things, SBOMs that are attached and shown, and signatures as files.

use std::fs::File;

use harness::faults::Kind;
use harness::fixtures::{Layout, cosign};
use harness::{Content, Home, block};
use larder_core::Digest;
use larder_proto::v1::{AttachSbomRequest, WriteAction, WriteRequest};
use serde_json::Value;

use crate::content::reason;
use crate::world::{APP, World};

/// A world that holds `store/app:1.0`.
fn furnished() -> (World, Content, String) {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    (world, image, reference)
}

/// Attaches a file beside the home; more words may say how.
#[track_caller]
fn attach(home: &Home, file: &str, more: &[&str], reference: &str) -> harness::Output {
    home.larder([&["attach", "sbom", "--sbom", file], more, &[reference]].concat())
}

#[test]
fn places_are_named_for_what_is_held() {
    let (world, image, reference) = furnished();
    let repository = format!("{}/{APP}", world.registry.host());
    let says = |arguments: &[&str]| world.home.larder([&["triangulate"], arguments].concat()).exits(0).stdout;
    let place = |suffix: &str| format!("{repository}:{}\n", image.digest_tag(suffix));
    assert_eq!(says(&[&reference]), place(".sig"));
    assert_eq!(says(&["--type", "attestation", &reference]), place(".att"));
    assert_eq!(says(&["--type", "sbom", &reference]), place(".sbom"));
    assert_eq!(says(&["--type", "digest", &reference]), format!("{repository}@{}\n", image.digest()));
    assert_eq!(says(&[&format!("{repository}@{}", image.digest())]), place(".sig"));
    // What is not held is asked for at its registry.
    world.home.larder(["triangulate", &world.reference("none")]).exits(1).is_a_clear_error("none").hints();
    world.home.larder(["triangulate", &format!("{repository}:{}", image.digest_tag(".sig"))]).exits(1).hints();
    world.home.larder(["triangulate", "--type", "referrer", &reference]).exits(2);
}

#[test]
fn an_attached_sbom_is_cosigns_byte_for_byte() {
    let world = World::start();
    Layout::open("single").load_into(&world.registry, "store/single");
    let reference = world.registry.reference("store/single", "1.0.0");
    world.home.larder(["pull", &reference]).exits(0);
    let file = cosign().join("sbom/spdx.txt");
    let attached = attach(&world.home, file.to_str().expect("UTF-8"), &["--output", "json"], &reference).exits(0);
    let attached = attached.says(&["deprecated"]).json();
    assert_eq!(attached["seq"], 0, "what cosign attached is the same to the byte: {attached}");
    assert_eq!(attached["manifest"], "sha256:0e88772ca954ea6823c79411cc781699e2f8bb39462b0f8a86b3d2927cb40819");
}

#[test]
fn an_sbom_takes_the_place_of_the_one_before() {
    let (world, image, reference) = furnished();
    let home = &world.home;
    let served = || -> Value {
        let manifest = world.daemon.http().manifest(&world.served(), &image.digest_tag(".sbom")).is(200);
        serde_json::from_slice(&manifest.body).expect("JSON")
    };
    home.write_beside("a.json", "{\"a\":1}");
    // What it is called decides, and what is in it is nobody's business: bytes come back as they went.
    let odd = [&b"\xff\xfe\0 no text\r\n"[..], &harness::image::noise("odd", 600_000)].concat();
    home.write_beside("b.spdx", &odd);
    let first = attach(home, "a.json", &["--output", "json"], &reference).exits(0).json();
    assert_eq!(first["media_type"], "text/spdx+json");
    assert_eq!((&first["size"], &first["old"]), (&7.into(), &Value::Null));
    assert_eq!(served()["layers"][0]["digest"], Digest::of(b"{\"a\":1}").to_string());
    let again = attach(home, "a.json", &["--output", "json"], &reference).exits(0).json();
    assert_eq!(again["seq"], 0, "the same again is no operation");
    let second = attach(home, "b.spdx", &["--output", "json"], &reference).exits(0).json();
    assert_eq!(second["old"], first["manifest"]);
    let layers = served()["layers"].clone();
    assert_eq!(layers.as_array().map(Vec::len), Some(1), "overwritten, not appended");
    let layer = Digest::of(&odd);
    assert_eq!(layers[0]["digest"], layer.to_string());
    let read = world.daemon.http().blob(&world.served(), &layer).is(200);
    assert_eq!(read.body, odd, "readable though the image is not accepted");
    let piped = home
        .invoke(["attach", "sbom", "--sbom", "-", "--type", "cyclonedx", "--input-format", "json", &reference])
        .stdin(&home.beside("a.json"))
        .run()
        .exits(0);
    assert!(piped.stderr.contains("application/vnd.cyclonedx+json"), "{}", piped.stderr);
    assert_eq!(served()["layers"][0]["mediaType"], "application/vnd.cyclonedx+json");
    let log = home.larder(["log", "--output", "json"]).exits(0).stdout;
    assert_eq!(log.matches("\"operation\": \"attach\"").count(), 3, "{log}");
    let target = harness::FakeRegistry::start();
    let destination = target.reference(APP, "1.0");
    home.larder(["push", &reference, &destination]).exits(0);
    let other = Home::new();
    let daemon = other.start();
    other.larder(["pull", &destination]).exits(0);
    let served = format!("{}/{APP}", target.host().replace(':', "_"));
    daemon.http().manifest(&served, &image.digest_tag(".sbom")).is(200);
}

#[test]
fn what_is_no_sbom_is_not_attached() {
    let (world, image, reference) = furnished();
    let home = &world.home;
    home.write_beside("empty.spdx", "");
    home.write_beside("a.spdx", "SPDXVersion: SPDX-2.3\n");
    let too_long = home.beside("long.spdx");
    File::create(&too_long).and_then(|file| file.set_len((128 << 20) + 1)).expect("a long file");
    attach(home, "empty.spdx", &[], &reference).exits(1).is_a_clear_error("empty").hints();
    attach(home, "none.spdx", &[], &reference).exits(1).is_a_clear_error("none.spdx").hints();
    attach(home, ".", &[], &reference).exits(1).is_a_clear_error(".").hints();
    attach(home, "long.spdx", &[], &reference).exits(1).is_a_clear_error("more than 128 MiB").hints();
    attach(home, "a.spdx", &[], &world.reference("none")).exits(1).is_a_clear_error("not held").hints();
    attach(home, "a.spdx", &["--type", "excel"], &reference).exits(2);
    attach(home, "a.spdx", &["--input-format", "xml"], &reference).exits(2).hints();
    home.invoke(["attach", "sbom", "--sbom", "-", &reference]).run().exits(1).is_a_clear_error("empty");
    // Whoever speaks gRPC meets the same rules.
    let client = world.daemon.client();
    let digest = Digest::of(b"SPDXVersion: SPDX-2.3\n").to_string();
    let good = AttachSbomRequest { reference: reference.clone(), media_type: "text/spdx".to_owned(), digest };
    let refused = |request: AttachSbomRequest| {
        reason(&block(client.attachments().attach_sbom(request)).expect_err("nothing is attached"))
    };
    assert_eq!(refused(good.clone()), "missing-content");
    let layer = "application/vnd.oci.image.layer.v1.tar".to_owned();
    assert_eq!(refused(AttachSbomRequest { media_type: layer, ..good.clone() }), "invalid-argument");
    let sha512 = format!("sha512:{}", "0".repeat(128));
    assert_eq!(refused(AttachSbomRequest { digest: sha512, ..good.clone() }), "unsupported-digest");
    assert_eq!(refused(AttachSbomRequest { digest: "spdx".to_owned(), ..good.clone() }), "invalid-digest");
    assert_eq!(refused(AttachSbomRequest { reference: "alpine".to_owned(), ..good }), "not-held");
    world.daemon.http().manifest(&world.served(), &image.digest_tag(".sbom")).is(404);
    // What a rejected image lists does not come out as its own SBOM.
    let layer =
        AttachSbomRequest { reference, media_type: "text/spdx".to_owned(), digest: image.top_layer().to_string() };
    block(client.attachments().attach_sbom(layer)).expect("its bytes are here");
    world.daemon.http().blob(&world.served(), &image.top_layer()).is(403);
}

#[test]
fn a_death_leaves_an_sbom_whole_or_not_there() {
    let (world, image, reference) = furnished();
    let World { home, daemon, registry } = world;
    // Its bytes are here, and nobody attached them.
    let write = WriteRequest {
        action: WriteAction::Commit.into(),
        r#ref: "sbom".to_owned(),
        data: bytes::Bytes::from_static(b"another"),
        expected: Digest::of(b"another").to_string(),
        ..Default::default()
    };
    let client = daemon.client();
    block(async { client.content().write(futures_util::stream::iter([write])).await?.into_inner().message().await })
        .expect("written");
    daemon.kill();
    let served = format!("{}/{APP}", registry.host().replace(':', "_"));
    for point in ["blob-write", "blob-sync", "blob-rename", "journal-write", "journal-sync", "index-apply"] {
        let sbom = format!("SPDXVersion: SPDX-2.3\nDocumentName: {point}\n");
        home.write_beside("a.spdx", &sbom);
        let dying = home.launch().fault(point, Kind::Kill).start();
        attach(&home, "a.spdx", &[], &reference);
        assert!(!dying.ended().success(), "{point} is on the way");
        let daemon = home.start();
        let there = daemon.http().manifest(&served, &image.digest_tag(".sbom"));
        if there.text().contains(&Digest::of(sbom.as_bytes()).to_string()) {
            assert_eq!(daemon.http().blob(&served, &Digest::of(sbom.as_bytes())).is(200).text(), sbom, "{point}");
        }
        attach(&home, "a.spdx", &[], &reference).exits(0);
        daemon.http().manifest(&served, &image.digest_tag(".sbom")).is(200);
        let another = AttachSbomRequest {
            reference: reference.clone(),
            media_type: "text/spdx".to_owned(),
            digest: Digest::of(b"another").to_string(),
        };
        block(daemon.client().attachments().attach_sbom(another)).expect("what was written stays");
        daemon.kill();
        home.assert_blobs_are_whole();
    }
}

/// A world that holds what cosign, syft and oras made: `store/single` and `store/artifact`.
fn of_cosign() -> World {
    let world = World::start();
    for (repository, tag) in [("single", "1.0.0"), ("single", "1.1.0"), ("artifact", "5.0.0"), ("multi", "3.0.0")] {
        let name = format!("store/{repository}");
        Layout::open(repository).load_into(&world.registry, &name);
        let reference = world.registry.reference(&name, tag);
        world.home.larder(["pull", "--platform", "all", &reference]).exits(0);
    }
    world
}

#[track_caller]
fn listed(world: &World, reference: &str) -> Vec<Value> {
    let listed = world.home.larder(["sbom", "ls", reference, "--output", "json"]).exits(0).json();
    listed["sboms"].as_array().cloned().expect("a list")
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(cosign().join("sbom").join(name)).expect(name)
}

#[test]
fn sboms_are_listed_with_who_signed_them() {
    let world = of_cosign();
    let single = world.registry.reference("store/single", "1.0.0");
    let before = listed(&world, &single);
    assert!(before.iter().all(|sbom| sbom["signed"] == "untrusted"), "nobody is trusted yet: {before:?}");
    world.home.trust().write("keys/p256.pub", harness::fixtures::public_key("p256.pub"));
    world.daemon.client().trust_becomes("settled", 1, 0);
    let of = |reference: &str, form: &str| {
        let sboms = listed(&world, reference);
        sboms.into_iter().find(|sbom| sbom["form"] == form).unwrap_or_else(|| panic!("a {form}"))
    };
    let tag = of(&single, "tag");
    assert_eq!((&tag["kind"], &tag["media_type"]), (&"spdx".into(), &"text/spdx".into()));
    assert_eq!((&tag["signed"], &tag["signers"][0]["key"]), (&"yes".into(), &"p256".into()), "{tag}");
    assert_eq!(tag["size"], 3855);
    let attestation = of(&single, "attestation");
    assert_eq!(attestation["predicate_type"], "https://spdx.dev/Document");
    assert_eq!(attestation["signers"][0]["key"], "p256", "{attestation}");
    assert!(attestation["found_at"][0].as_str().is_some_and(|place| place.ends_with(".att")), "{attestation}");
    let bundle = of(&world.registry.reference("store/single", "1.1.0"), "attestation");
    assert_eq!((&bundle["kind"], &bundle["signed"]), (&"cyclonedx".into(), &"yes".into()), "{bundle}");
    let referrer = of(&world.registry.reference("store/artifact", "5.0.0"), "referrer");
    assert_eq!(referrer["media_type"], "application/spdx+json");
    assert_eq!(referrer["signers"][0]["key"], "p256", "its own digest is signed by a bundle: {referrer}");
    let words = world.home.larder(["sbom", "ls", &single]).exits(0).stdout;
    assert!(words.contains("signed by p256") && words.contains("attested by p256"), "{words}");
    // What is attached here is the newest, and nobody signed it: the one that counts stays first.
    world.home.write_beside("new.spdx", "SPDXVersion: SPDX-2.3\n");
    attach(&world.home, "new.spdx", &[], &single).exits(0);
    let sboms = listed(&world, &single);
    assert_eq!(sboms[0]["form"], "attestation");
    assert_eq!((&sboms[1]["form"], &sboms[1]["signed"]), (&"tag".into(), &"no".into()));
    assert_eq!(sboms.len(), 2, "what it took the place of is gone");
    world.home.trust().remove_key("p256");
    world.daemon.client().trust_becomes("settled", 0, 0);
    assert_eq!(listed(&world, &single)[0]["signed"], "no", "nobody counts, so the newest is first");
}

#[test]
fn an_sbom_is_shown_byte_for_byte() {
    let world = of_cosign();
    world.home.trust().write("keys/p256.pub", harness::fixtures::public_key("p256.pub"));
    world.daemon.client().trust_becomes("settled", 1, 0);
    let single = world.registry.reference("store/single", "1.0.0");
    let show = |words: &[&str]| world.home.larder([&["sbom", "show"], words].concat()).exits(0);
    let shown = show(&[&single]);
    assert_eq!(shown.json(), serde_json::from_str::<Value>(&fixture("spdx.json")).expect("JSON"));
    shown.says(&["spdx SBOM", "attested by p256"]);
    let sboms = listed(&world, &single);
    let attestation = sboms.iter().find(|sbom| sbom["form"] == "attestation").expect("an attestation");
    let shown = show(&[&single, "--digest", attestation["digest"].as_str().expect("a digest")]);
    assert_eq!(attestation["size"], shown.stdout.len());
    let tag = sboms.iter().find(|sbom| sbom["form"] == "tag").expect("what cosign attached");
    for digest in [&tag["digest"], &tag["manifest"]] {
        let shown = show(&[&single, "--digest", digest.as_str().expect("a digest")]);
        assert_eq!(shown.stdout, fixture("spdx.txt"));
        shown.says(&["signed by p256"]);
    }
    let shown = show(&[&world.registry.reference("store/single", "1.1.0")]);
    assert_eq!(shown.json(), serde_json::from_str::<Value>(&fixture("cyclonedx.json")).expect("JSON"));
    let shown = show(&[&world.registry.reference("store/artifact", "5.0.0")]);
    assert_eq!(shown.stdout, fixture("spdx.json"));
    // Each image of an index has its own.
    let multi = world.registry.reference("store/multi", "3.0.0");
    world.home.write_beside("arm.spdx", "SPDXVersion: SPDX-2.3\nfor arm64\n");
    let parts = world.home.larder(["show", &multi, "--output", "json"]).exits(0).json();
    let is_arm = |one: &&Value| {
        one["descriptor"]["platform"].as_str().is_some_and(|platform| platform.starts_with("linux/arm64"))
    };
    let arm = parts["successors"].as_array().and_then(|all| all.iter().find(is_arm));
    let digest =
        arm.and_then(|one| one["descriptor"]["digest"].as_str()).unwrap_or_else(|| panic!("an image: {parts}"));
    let arm = format!("{}@{digest}", multi.trim_end_matches(":3.0.0"));
    attach(&world.home, "arm.spdx", &[], &arm).exits(0);
    assert!(show(&[&multi, "--platform", "linux/arm64"]).stdout.ends_with("for arm64\n"));
    world.home.larder(["sbom", "show", &multi]).exits(1).is_a_clear_error("no SBOM").says(&["--platform"]);
    world.home.larder(["sbom", "show", &single, "--platform", "linux/arm64"]).exits(1).hints();
}

#[test]
fn what_is_no_sbom_is_not_shown() {
    let (world, image, reference) = furnished();
    let home = &world.home;
    home.larder(["sbom", "show", &reference]).exits(1).is_a_clear_error("no SBOM").hints();
    home.larder(["sbom", "show", "alpine"]).exits(1).is_a_clear_error("not held").hints();
    home.larder(["sbom", "show", &reference, "--digest", "spdx"]).exits(1).is_a_clear_error("digest");
    home.larder(["sbom", "ls", &reference]).exits(0).says(&["has no SBOM"]);
    // Something else at the tag.
    let odd = harness::Image::small("no SBOM at all");
    world.daemon.http().push(&world.served(), &image.digest_tag(".sbom"), &odd);
    home.larder(["sbom", "show", &reference]).exits(1).is_a_clear_error(".sbom is none").hints();
    let listed = home.larder(["sbom", "ls", &reference, "--output", "json"]).exits(0).json();
    assert_eq!((&listed["sboms"], &listed["odd"]), (&Value::Array(vec![]), &image.digest_tag(".sbom").into()));
    home.larder(["sbom", "ls", &reference]).exits(0).says(&["is no SBOM"]);
    let other = Digest::of(b"other").to_string();
    home.larder(["sbom", "show", &reference, "--digest", &other]).exits(1).is_a_clear_error("no SBOM").hints();
    // A layer of the image that is not accepted, by the type of an SBOM.
    let client = world.daemon.client();
    let layer = image.top_layer().to_string();
    let request = AttachSbomRequest { reference: reference.clone(), media_type: "text/spdx".to_owned(), digest: layer };
    block(client.attachments().attach_sbom(request)).expect("its bytes are here");
    home.larder(["sbom", "show", &reference]).exits(1).is_a_clear_error("is unsigned");
    // Bytes that rotted on the disk.
    home.write_beside("a.spdx", "SPDXVersion: SPDX-2.3\n");
    attach(home, "a.spdx", &[], &reference).exits(0);
    home.larder(["sbom", "show", &reference]).exits(0).says(&["not signed"]);
    let blob = home.blob(&Digest::of(b"SPDXVersion: SPDX-2.3\n"));
    std::fs::remove_file(&blob).and_then(|()| std::fs::write(&blob, "SPDXVersion: SPDX-9.9\n")).expect("rot");
    home.larder(["sbom", "show", &reference]).exits(1).is_a_clear_error("digest").says(&["must not be used"]);
}

#[test]
fn signatures_and_attestations_are_printed_as_cosign_prints_them() {
    let world = of_cosign();
    let single = world.registry.reference("store/single", "1.0.0");
    let bundled = world.registry.reference("store/single", "1.1.0");
    let lines = |words: &[&str]| -> Vec<Value> {
        let printed = world.home.larder([&["download"], words].concat()).exits(0).stdout;
        printed.lines().map(|line| serde_json::from_str(line).expect("one JSON value on each line")).collect()
    };
    let signatures = lines(&["signature", &single]);
    assert_eq!(signatures.len(), 1);
    let names: Vec<&String> = signatures[0].as_object().expect("an object").keys().collect();
    assert_eq!(names, ["Base64Signature", "Payload", "Cert", "Chain", "Bundle", "RFC3161Timestamp"]);
    assert!(signatures[0]["Base64Signature"].as_str().is_some_and(|text| text.starts_with("MEYCIQDIY67h")));
    assert!(signatures[0]["Cert"].is_null() && signatures[0]["Bundle"].is_null());
    let bundles = lines(&["signature", &bundled]);
    assert_eq!(bundles.len(), 3, "every bundle, as cosign 3 does");
    assert!(bundles.iter().all(|bundle| bundle["dsseEnvelope"]["payload"].is_string()), "{bundles:?}");
    let attestations = lines(&["attestation", &single]);
    assert_eq!(attestations.len(), 2, "in the order of their layers");
    assert_eq!(attestations[0]["signatures"][0]["keyid"], "");
    assert_eq!(lines(&["attestation", "--predicate-type", "spdxjson", &single]), attestations[..1]);
    assert_eq!(lines(&["attestation", "--predicate-type", "custom", &single]), attestations[1..]);
    assert_eq!(lines(&["attestation", "--predicate-type", "https://cyclonedx.org/bom", &bundled]).len(), 1);
    let none = ["download", "attestation", "--predicate-type", "vuln", &single];
    world.home.larder(none).exits(1).is_a_clear_error("no such attestations").hints();
    world.home.larder(["download", "attestation", "--predicate-type", "nope", &single]).exits(2);
    world.home.larder(["download", "signature", "alpine"]).exits(1).is_a_clear_error("not held").hints();
    let multi = world.registry.reference("store/multi", "3.0.0");
    let of_arm = lines(&["signature", "--platform", "linux/arm64", &multi]);
    assert_eq!(of_arm.len(), 1);
    assert_ne!(of_arm, lines(&["signature", &multi]), "each image has its own");
    assert_eq!(world.home.larder(["download", "sbom", &single]).exits(0).stdout, fixture("spdx.txt"));
    world.home.larder(["download", "sbom", &bundled]).exits(1).is_a_clear_error("no SBOM is attached").hints();
}

#[test]
fn memory_does_not_grow_with_an_sbom() {
    let (world, _, reference) = furnished();
    let longest = world.home.beside("long.spdx");
    File::create(&longest).and_then(|file| file.set_len(128 << 20)).expect("a file");
    let before = world.daemon.memory_kib("VmHWM");
    attach(&world.home, "long.spdx", &[], &reference).exits(0);
    let shown = world.home.larder(["sbom", "show", &reference]).exits(0).stdout;
    assert_eq!(shown.len(), 128 << 20);
    let grown = world.daemon.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB for 128 MiB");
}
