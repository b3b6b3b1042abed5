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
    world.home.larder(["triangulate", &world.reference("none")]).exits(1).is_a_clear_error("not held").hints();
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
