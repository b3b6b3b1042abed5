//! What comes from a hostile or broken registry. Each: a clear error with the noun, nothing half-visible, the daemon stays up.

use std::time::Duration;

use bytes::Bytes;
use harness::image::{OCI_LAYER, describe};
use harness::registry::Fault;
use harness::signer::{Signature, signature_image};
use harness::{Bounded, Content, Image, Signer};
use larder_core::Digest;
use larder_core::manifest::{OCI_INDEX, OCI_MANIFEST};
use larder_proto::v1::State;
use serde_json::json;

use crate::world::{APP, World};

/// Pulls a tag; it must fail with a clear error that says `noun`, and leave nothing visible.
#[track_caller]
fn refuses(world: &mut World, tag: &str, noun: &str) {
    let bounded = Bounded::begin(&world.daemon);
    world.home.larder(["pull", &world.reference(tag)]).exits(1).is_a_clear_error(noun);
    assert!(world.daemon.client().query(&world.reference(tag)).is_err(), "nothing half-visible");
    world.daemon.http().manifest(&world.served(), tag).is(404);
    world.home.assert_blobs_are_whole();
    bounded.end(tag);
    world.daemon.assert_up();
}

/// After all that, a good image is pulled.
#[track_caller]
fn still_works(world: &mut World) {
    world.registry.mend();
    world.upstream("still-good", &[]);
    world.pull("still-good");
    world.daemon.assert_up();
}

#[test]
fn malformed_references() {
    let mut world = World::start();
    let bounded = Bounded::begin(&world.daemon);
    let long = "a/".repeat(300);
    for reference in [
        "",
        " ",
        "UPPER/case",
        "a//b",
        "a:tag with space",
        "a@sha256:abc",
        "a@md5:aa",
        "../../etc",
        "-x",
        "a:b:c",
        "host:99999/a",
        long.as_str(),
    ] {
        let output = world.home.larder(["pull", "--", reference]);
        assert!(matches!(output.code, 1 | 2), "{reference:?}: exit {}", output.code);
        assert!(output.stderr.to_lowercase().contains("error"), "{reference:?}: {}", output.stderr);
    }
    bounded.end("malformed references");
    world.daemon.assert_up();
}

#[test]
fn manifests_that_are_none() {
    let mut world = World::start();
    let image = Image::small("base");
    let raw = &image.root().bytes;
    let put = |world: &World, tag: &str, media_type: &str, bytes: Bytes| {
        world.registry.put_untagged(APP, &image);
        world.registry.put_manifest(APP, Some(tag), media_type, bytes);
    };
    put(&world, "truncated", OCI_MANIFEST, raw.slice(..raw.len() / 2));
    refuses(&mut world, "truncated", "manifest");
    put(&world, "empty", OCI_MANIFEST, Bytes::new());
    refuses(&mut world, "empty", "manifest");
    put(&world, "html", "text/html", Bytes::from_static(b"<html>"));
    refuses(&mut world, "html", "text/html");
    put(&world, "liar", OCI_INDEX, raw.clone());
    refuses(&mut world, "liar", "manifest");
    put(
        &world,
        "schema1",
        "application/vnd.docker.distribution.manifest.v1+json",
        Bytes::from_static(b"{\"schemaVersion\":1}"),
    );
    refuses(&mut world, "schema1", "manifest");
    let padded =
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": [], "pad": "x".repeat(5 << 20)});
    put(&world, "huge", OCI_MANIFEST, padded.to_string().into());
    refuses(&mut world, "huge", "4 MiB");
    let layer = describe(OCI_LAYER, b"layer");
    let many = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": layer, "layers": vec![json!({"digest": layer["digest"], "size": 5, "mediaType": "a"}); 100_000]});
    put(&world, "many", OCI_MANIFEST, many.to_string().into());
    refuses(&mut world, "many", "manifest");
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    put(&world, "deep", OCI_MANIFEST, deep.into());
    refuses(&mut world, "deep", "manifest");
    still_works(&mut world);
}

#[test]
fn other_bytes_than_the_digest_says() {
    let mut world = World::start();
    let image = world.upstream("1.0", &[]);
    let layer = image.top_layer().to_string();
    let good = image.blobs().last().expect("a layer").clone();
    let mut flipped = good.to_vec();
    flipped[0] ^= 1;
    for bytes in [Bytes::from(flipped), good.slice(..100), Bytes::from([&good[..], b"more"].concat())] {
        world.registry.fault("GET", &format!("/blobs/{layer}"), Fault::Bytes(bytes), usize::MAX);
        refuses(&mut world, "1.0", &layer[..19]);
        world.registry.mend();
    }
    // A manifest under a digest that is not its own.
    let other = Image::small("other");
    let claimed = Digest::of(b"something else");
    world.registry.put_untagged(APP, &other);
    world.registry.put_manifest_as(APP, None, &claimed.to_string(), OCI_MANIFEST, other.root().bytes.clone());
    let reference = world.registry.at(APP, &claimed);
    let bounded = Bounded::begin(&world.daemon);
    world.home.larder(["pull", &reference]).exits(1).is_a_clear_error("digest");
    assert!(world.daemon.client().query(&reference).is_err());
    bounded.end("a manifest under another digest");
    still_works(&mut world);
}

#[test]
fn a_registry_that_closes_mid_stream() {
    let mut world = World::start();
    let layer = harness::image::noise("long", 3 << 20);
    let image = Image::new("long").layer(layer).build();
    world.registry.put(APP, "1.0", &image);
    let path = format!("/blobs/{}", image.top_layer());
    world.registry.fault("GET", &path, Fault::CloseAfter(1 << 20), usize::MAX);
    let host = world.registry.host();
    refuses(&mut world, "1.0", &host);
    world.registry.mend();
    world.pull("1.0");
    assert!(world.home.blob(&image.top_layer()).exists());
    world.registry.fault("GET", "/manifests/", Fault::CloseAfter(10), usize::MAX);
    refuses(&mut world, "closes", "closes");
    still_works(&mut world);
}

#[test]
fn answers_that_are_errors() {
    let mut world = World::start();
    for (status, word) in [(401, "401"), (403, "403"), (404, "404"), (429, "429"), (500, "500")] {
        let tag = format!("answer-{status}");
        let image = world.upstream(&tag, &[]);
        for part in [format!("/manifests/{tag}"), format!("/blobs/{}", image.top_layer())] {
            world.registry.fault("*", &part, Fault::Status(status), usize::MAX);
            let host = world.registry.host();
            refuses(&mut world, &tag, &host);
            let output = world.home.larder(["pull", &world.reference(&tag)]).exits(1);
            assert!(output.stderr.contains(word), "{status}: {}", output.stderr);
            world.registry.mend();
        }
        world.pull(&tag);
    }
    still_works(&mut world);
}

#[test]
fn a_failed_look_for_signatures_is_an_error_and_never_none() {
    let release = Signer::new("release");
    for status in [401, 403, 429, 500] {
        for part in ["/referrers/", ".sig"] {
            let mut world = World::start();
            world.registry = harness::FakeRegistry::start_with_referrers();
            world.upstream("1.0", &[&release]);
            world.registry.fault("*", part, Fault::Status(status), usize::MAX);
            let bounded = Bounded::begin(&world.daemon);
            world.home.larder(["pull", &world.reference("1.0")]).exits(1).is_a_clear_error(&world.registry.host());
            world.home.larder(["verify", &world.reference("1.0")]).exits(1);
            bounded.end("a failed look for signatures");
            world.registry.mend();
            world.pull("1.0");
            assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Untrusted);
        }
    }
}

#[test]
fn a_rate_limit_that_passes_is_waited_for() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.registry.fault("GET", "/blobs/", Fault::Status(429), 1);
    world.registry.fault("GET", "/blobs/", Fault::Status(500), 1);
    let bounded = Bounded::begin(&world.daemon);
    world.pull("1.0");
    bounded.end("a rate limit that passes");
}

#[test]
fn redirects_to_where_none_may_lead() {
    let mut world = World::start();
    let image = world.upstream("1.0", &[]);
    let path = format!("/blobs/{}", image.top_layer());
    for place in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/x",
        "file:///etc/passwd",
        "gopher://x/",
        "http://2852039166/latest",
        "//",
        "",
    ] {
        world.registry.fault("GET", &path, Fault::Redirect(place.to_owned()), usize::MAX);
        refuses(&mut world, "1.0", "redirect");
        world.registry.mend();
    }
    // In a circle.
    world.registry.fault(
        "GET",
        &path,
        Fault::Redirect(format!("http://{}/v2/{APP}{path}", world.registry.host())),
        usize::MAX,
    );
    refuses(&mut world, "1.0", "redirect");
    still_works(&mut world);
}

#[test]
fn indexes_that_never_end() {
    let mut world = World::start();
    // Depth 1,000: each index lists the one before.
    let mut content = Image::small("core of the onion");
    world.registry.put_untagged(APP, &content);
    for _ in 0..1000 {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [content.descriptor()]});
        content = Content::of(OCI_INDEX, &index, Vec::new());
        world.registry.put_untagged(APP, &content);
    }
    world.registry.put(APP, "onion", &content);
    refuses(&mut world, "onion", "nested");
    // Self-referring: served under the digest that it lists, which is not its own.
    let claimed = Digest::of(b"a digest that no index can have");
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_INDEX, "digest": claimed.to_string(), "size": 300}]});
    world.registry.put_manifest_as(APP, None, &claimed.to_string(), OCI_INDEX, index.to_string().into());
    world.registry.put(APP, "ouroboros", &Content::of(OCI_INDEX, &index, Vec::new()));
    refuses(&mut world, "ouroboros", "digest");
    still_works(&mut world);
}

#[test]
fn signature_layers_with_broken_base64_and_der() {
    let world = World::start();
    let release = Signer::new("release");
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[]);
    let good = release.sign(&image.digest());
    let broken = |base64: &str| Signature { payload: good.payload.clone(), base64: base64.to_owned() };
    let not_json = Signature { payload: Bytes::from_static(b"{"), base64: good.base64.clone() };
    let all = [broken("%%%"), broken(""), broken("AAAA"), broken("MAA="), broken(&good.base64[..20]), not_json];
    world.registry.put_signature(APP, &image.digest(), &signature_image(&all));
    let bounded = Bounded::begin(&world.daemon);
    world.pull("1.0");
    assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Untrusted, "found, and none that counts");
    world.home.larder(["verify", &world.reference("1.0")]).exits(12);
    // Beside them, a good one counts.
    let mut with_good = all.to_vec();
    with_good.push(good);
    world.registry.put_signature(APP, &image.digest(), &signature_image(&with_good));
    world.pull("1.0");
    assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Verified);
    bounded.end("broken signatures");
}

#[test]
fn ten_thousand_signatures_on_one_image() {
    let mut world = World::start();
    let (release, stranger) = (Signer::new("release"), Signer::new("stranger"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[]);
    let mut signatures: Vec<_> =
        (0..9_999).map(|number| stranger.sign_with(&image.digest(), &json!({"number": number}))).collect();
    signatures.push(release.sign(&image.digest()));
    world.registry.put_signature(APP, &image.digest(), &signature_image(&signatures));
    let bounded = Bounded::begin(&world.daemon);
    // Its ten thousand blobs take half a minute; what follows bounds it.
    world.home.invoke(["pull", &world.reference("1.0")]).patience(Duration::from_secs(300)).run().exits(0);
    assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Verified, "junk crowds no good one out");
    bounded.end("ten thousand signatures");
    world.daemon.assert_up();
}

#[test]
fn an_oversized_payload_is_recorded_and_not_counted() {
    let mut world = World::start();
    let release = Signer::new("release");
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[]);
    let huge = release.sign_with(&image.digest(), &json!({"pad": "x".repeat(2 << 20)}));
    world.registry.put_signature(APP, &image.digest(), &signature_image(&[huge]));
    let bounded = Bounded::begin(&world.daemon);
    world.pull("1.0");
    assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Untrusted);
    bounded.end("an oversized payload");
    world.daemon.assert_up();
}

#[test]
fn the_endpoint_takes_no_bad_manifest_either() {
    let mut world = World::start();
    let http = world.daemon.http();
    let image = Image::small("base");
    http.push("team/base", "1.0", &image);
    let raw = &image.root().bytes;
    let config = describe("application/json", b"{}");
    let many = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": vec![config.clone(); 20_000]});
    let huge = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], "pad": "x".repeat(5 << 20)});
    let bounded = Bounded::begin(&world.daemon);
    for (name, media_type, bytes) in [
        ("truncated", OCI_MANIFEST, raw.slice(..raw.len() / 2)),
        ("liar", OCI_INDEX, raw.clone()),
        ("unknown", "text/html", raw.clone()),
        ("untyped", "", Bytes::from_static(b"{}")),
        ("many", OCI_MANIFEST, many.to_string().into()),
        ("huge", OCI_MANIFEST, huge.to_string().into()),
    ] {
        let answer = http.try_send(http::Method::PUT, &format!("/v2/team/base/manifests/{name}"), media_type, bytes);
        if let Ok(answer) = answer {
            assert!((400..500).contains(&answer.status), "{name}: {}", answer.status);
        }
        http.manifest("team/base", name).is(404);
        world.daemon.assert_up();
    }
    let wrong = Digest::of(b"wrong").to_string();
    let answer = http.put_manifest("team/base", &wrong, OCI_MANIFEST, raw.clone());
    assert_eq!(answer.status, 400, "{}", answer.text());
    bounded.end("bad manifests at the endpoint");
}
