//! The gate against who wants past it: what a rejected image consists of must not be readable by any other way.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use harness::image::{OCI_CONFIG, OCI_LAYER, describe, noise};
use harness::signer::SIMPLE_SIGNING;
use harness::{Client, Content, Http, Image, Index, Raw, Signer};
use http::Method;
use larder_core::Digest;
use larder_core::digest::Algorithm;
use larder_core::manifest::{OCI_INDEX, OCI_MANIFEST};
use larder_proto::v1::State;
use serde_json::{Value, json};

use crate::world::{APP, World};

pub(crate) const SPDX: &str = "application/spdx+json";
pub(crate) const EMPTY_JSON: &str = "application/vnd.oci.empty.v1+json";

/// Longer than what the kernel's buffers of a connection hold: who has read little of it is in its middle.
const LONG: usize = 24 << 20;

#[test]
fn a_key_removed_in_the_middle_of_a_pull_refuses_the_next_blob() {
    let (world, release) = (World::start(), Signer::new("release"));
    let (first, second) = (noise("first", LONG), noise("second", 100_000));
    let image = Image::new("long").layer(first.clone()).layer(second.clone()).build();
    world.registry.put(APP, "1.0", &image);
    world.sign_upstream(&image, &[&release]);
    edit(&world.daemon.client(), || world.home.trust().key("release", &release));
    world.pull("1.0");
    let get = |blob: &Bytes| format!("GET /v2/{}/blobs/{}", world.served(), Digest::of(blob));

    let mut client = Raw::connect(world.daemon.endpoint());
    client.ask(&format!("GET /v2/{}/manifests/1.0", world.served()), "");
    assert_eq!(client.answer().expect("a manifest").1, image.root().bytes);
    client.ask(&get(&first), "");
    assert_eq!(client.head().expect("an answer").status, 200);
    let mut received = client.take(1 << 20);

    world.home.trust().remove_key("release");
    world.daemon.client().becomes(&world.reference("1.0"), State::Untrusted);
    let mut other = Raw::connect(world.daemon.endpoint());
    other.ask(&get(&second), "");
    let (head, body) = other.answer().expect("an answer");
    let body = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(head.status, 403, "{body}");
    assert!(body.contains("untrusted") && body.contains("larder trust add"), "reason and remedy: {body}");

    // What was accepted when it was asked for comes whole, not cut off and taken for whole.
    received.extend(client.take(LONG - received.len()));
    assert!(received == first, "the blob that was under way");
    for (request, headers, status) in [
        (get(&second), "", 403),
        (get(&second), "Range: bytes=0-9\r\n", 403),
        (get(&second), &*format!("If-None-Match: \"{}\"\r\n", Digest::of(&second)), 403),
        (get(&first), "Range: bytes=1000-\r\n", 403),
        (get(&second).replace("GET", "HEAD"), "", 404),
        (format!("GET /v2/{}/manifests/1.0", world.served()), "", 200),
    ] {
        let mut client = Raw::connect(world.daemon.endpoint());
        client.ask(&request, headers);
        assert_eq!(client.head().expect("an answer").status, status, "{request} {headers}");
    }
    // Also by a connection on which it was accepted a moment ago.
    client.ask(&get(&second), "");
    assert_eq!(client.answer().expect("an answer").0.status, 403);

    world.home.trust().key("release", &release);
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    client.ask(&get(&second), "");
    assert_eq!(client.answer().expect("an answer").1, second);
}

#[test]
fn every_way_of_losing_trust_refuses_the_next_blob() {
    for (state, word) in
        [(State::Revoked, "revoked"), (State::Denied, "denied"), (State::Untrusted, "untrusted"), (State::Pending, "")]
    {
        let (world, release) = (World::start(), Signer::new("release"));
        let image = Image::small("app");
        let http = world.daemon.http();
        http.push("team/app", "1.0", &image);
        http.push("team/app", &image.digest_tag(".sig"), &release.signature_of(&image));
        world.home.trust().key("release", &release);
        let (client, reference) = (world.daemon.client(), "localhost/team/app:1.0");
        client.becomes(reference, State::Verified);
        http.blob("team/app", &image.top_layer()).is(200);
        let trust = world.home.trust();
        match state {
            State::Revoked => trust.key_scope("release", &json!({"revoked": {"reason": "stolen"}})),
            State::Denied => trust.deny(&json!({"digests": [{"digest": image.digest().to_string()}]})),
            State::Pending => std::fs::rename(trust.file("keys"), trust.file("elsewhere")).expect("moved"),
            _ => trust.policy_of_keys("other", &["**"], &["nobody"]),
        }
        client.becomes(reference, state);
        let status = if state == State::Pending { 503 } else { 403 };
        let refused = http.blob("team/app", &image.top_layer()).is(status);
        assert!(refused.text().contains(word), "{}", refused.text());
        http.manifest("team/app", "1.0").is(if state == State::Denied { 403 } else { 200 });
    }
}

/// Edits the trust folder and waits until that is in force; what is listed may be ahead of what is judged under.
pub(crate) fn edit(client: &Client, change: impl FnOnce()) {
    let set = || client.trust_list().health.filter(|health| health.condition == "settled").map(|health| health.set);
    let before = harness::eventually("a settled folder", set);
    change();
    harness::eventually("the edit to be in force", || set().filter(|now| *now != before));
}

/// A world that holds a rejected image in `team/app`, and accepts everything in `open/**`.
fn with_rejected() -> (World, Content, Bytes) {
    let world = World::start();
    edit(&world.daemon.client(), || world.home.trust().policy_static("open", "localhost/open/**", "pass"));
    let image = Image::small("rejected");
    world.daemon.http().push("team/app", "1.0", &image);
    let layer = image.blobs().last().expect("a layer").clone();
    world.daemon.http().blob("team/app", &image.top_layer()).is(403);
    (world, image, layer)
}

/// Asserts that a blob cannot be read in any of the repositories, nor be taken over from them.
#[track_caller]
fn assert_closed(http: &Http, repositories: &[&str], blob: &Digest) {
    for repository in repositories {
        let answer = http.blob(repository, blob);
        assert!(matches!(answer.status, 403 | 404), "{blob} in {repository}: {}", answer.status);
        http.head(&format!("/v2/{repository}/blobs/{blob}")).is(404);
        let range = http.clone().with("range", "bytes=0-0").blob(repository, blob);
        assert!(matches!(range.status, 403 | 404), "a range of {blob} in {repository}: {}", range.status);
        let mount = format!("/v2/closed/mounted/blobs/uploads/?mount={blob}&from={repository}");
        http.send(Method::POST, &mount, "", Bytes::new()).is(202);
    }
}

#[test]
fn neither_a_mount_nor_another_repository_opens_a_rejected_layer() {
    let (world, image, _) = with_rejected();
    let (http, layer) = (world.daemon.http(), image.top_layer());
    // Beside an accepted image that does not have it, and one that is not accepted and has it.
    let beside = Image::small("beside");
    http.push("open/app", "1.0", &beside);
    http.blob("open/app", &beside.top_layer()).is(200);
    http.push("other/app", "1.0", &image);
    assert_closed(&http, &["team/app", "other/app", "open/app", "open/none", "nobody/there"], &layer);
    assert_closed(&http, &["team/app", "other/app", "open/app"], &image.digest());
    // Where an accepted image has it, it is open, there and nowhere else.
    http.push("open/app", "2.0", &image);
    http.blob("open/app", &layer).is(200);
    let mount = format!("/v2/team/app/blobs/uploads/?mount={layer}&from=open/app");
    http.send(Method::POST, &mount, "", Bytes::new()).is(201);
    for repository in ["team/app", "other/app"] {
        http.blob(repository, &layer).is(403);
    }
    http.blob("open/none", &layer).is(404);
}

/// A manifest with these blobs as layers of one media type, that refers to `subject`.
pub(crate) fn referrer(subject: &Content, media_type: &str, config: (&str, &Bytes), layers: &[Bytes]) -> Content {
    let described: Vec<_> = layers.iter().map(|layer| describe(media_type, layer)).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": media_type,
        "config": describe(config.0, config.1), "layers": described, "subject": subject.descriptor()});
    let blobs = layers.iter().cloned().chain([config.1.clone()]).collect();
    Content::of(OCI_MANIFEST, &manifest, blobs)
}

#[test]
fn no_attached_artifact_opens_a_rejected_layer() {
    let (world, image, layer) = with_rejected();
    let (http, release) = (world.daemon.http(), Signer::new("release"));
    let accepted = Image::small("accepted");
    http.push("open/app", "1.0", &accepted);
    let (empty, own) = (Bytes::from_static(b"{}"), Bytes::from_static(b"{\"spdx\": 1}"));
    let closed = |why: &str| {
        println!("{why}");
        assert_closed(&http, &["team/app", "open/app"], &Digest::of(&layer));
    };
    for media_type in [SPDX, SIMPLE_SIGNING, "application/vnd.dsse.envelope.v1+json", OCI_LAYER] {
        for (repository, subject) in [("team/app", &image), ("open/app", &accepted)] {
            let as_layer = referrer(subject, media_type, (EMPTY_JSON, &empty), &[own.clone(), layer.clone()]);
            http.push_by_digest(repository, &as_layer);
            closed(&format!("as a layer, {media_type}, in {repository}"));
            http.push_by_digest(repository, &referrer(subject, media_type, (SPDX, &layer), std::slice::from_ref(&own)));
            closed(&format!("as the config, {media_type}, in {repository}"));
            for suffix in [".sig", ".att", ".sbom", "", ".other"] {
                http.push(repository, &subject.digest_tag(suffix), &as_layer);
                closed(&format!("at a tag {suffix:?}, {media_type}, in {repository}"));
            }
        }
    }
    // Its own verdict is never counted, however well it is signed.
    let signed = referrer(&accepted, SPDX, (EMPTY_JSON, &empty), std::slice::from_ref(&layer));
    http.push_by_digest("team/app", &signed);
    http.push("team/app", &signed.digest_tag(".sig"), &release.signature_of(&signed));
    edit(&world.daemon.client(), || world.home.trust().key("release", &release));
    assert_closed(&http, &["team/app"], &Digest::of(&layer));
    // What is only evidence is open, which shows that the rest was not closed by accident.
    http.push_by_digest("team/app", &referrer(&image, SPDX, (EMPTY_JSON, &empty), std::slice::from_ref(&own)));
    http.blob("team/app", &Digest::of(&own)).is(200);
}

#[test]
fn evidence_that_lists_a_blob_closes_when_an_image_lists_it() {
    let (world, _, _) = with_rejected();
    let http = world.daemon.http();
    let (subject, later) = (Image::small("subject"), Image::small("later"));
    let layer = later.blobs().last().expect("a layer").clone();
    http.push_by_digest("team/app", &referrer(&subject, SPDX, (EMPTY_JSON, &Bytes::from_static(b"{}")), &[layer]));
    http.blob("team/app", &later.top_layer()).is(200);
    http.push("some/where", "1.0", &later);
    assert_closed(&http, &["team/app", "some/where"], &later.top_layer());
}

#[test]
fn a_sha512_alias_opens_nothing_of_its_sha256() {
    let (world, image, layer) = with_rejected();
    let (http, alias) = (world.daemon.http(), Digest::with(Algorithm::Sha512, &layer));
    let path = format!("/v2/team/app/blobs/uploads/?digest={alias}");
    http.send(Method::POST, &path, "application/octet-stream", layer.clone()).is(201);
    assert_closed(&http, &["team/app", "open/app"], &alias);
    // An image by the alias is another image, and as much rejected.
    let config = Bytes::from_static(b"{\"alias\": 1}");
    let descriptor = json!({"mediaType": OCI_LAYER, "digest": alias.to_string(), "size": layer.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": describe(OCI_CONFIG, &config), "layers": [descriptor]});
    http.push("team/app", "alias", &Content::of(OCI_MANIFEST, &manifest, vec![config]));
    assert_closed(&http, &["team/app", "open/app"], &alias);
    // Nor does evidence open it, neither by its digest nor embedded under its other name.
    let empty = Bytes::from_static(b"{}");
    let by_digest = json!({"mediaType": SPDX, "digest": alias.to_string(), "size": layer.len()});
    let mut embedded = by_digest.clone();
    embedded["data"] = json!(STANDARD.encode(&layer));
    for (descriptor, is_readable) in [(by_digest, true), (embedded, false)] {
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": SPDX,
            "config": describe(EMPTY_JSON, &empty), "layers": [descriptor], "subject": image.descriptor()});
        let content = Content::of(OCI_MANIFEST, &manifest, vec![empty.clone()]);
        http.push_by_digest("team/app", &content);
        assert_eq!(http.manifest("team/app", &content.digest().to_string()).status == 200, is_readable);
        assert_closed(&http, &["team/app", "open/app"], &alias);
        assert_closed(&http, &["team/app", "open/app"], &Digest::of(&layer));
    }
}

#[test]
fn evidence_that_embeds_what_an_image_lists_by_sha512_is_held_back() {
    let (world, image, _) = with_rejected();
    let http = world.daemon.http();
    // This image knows its layer by sha512 only; the evidence names the same bytes by sha256.
    let layer = noise("by sha512", 3000);
    let alias = Digest::with(Algorithm::Sha512, &layer);
    let path = format!("/v2/team/app/blobs/uploads/?digest={alias}");
    http.send(Method::POST, &path, "application/octet-stream", layer.clone()).is(201);
    let config = Bytes::from_static(b"{\"by\": 512}");
    let descriptor = json!({"mediaType": OCI_LAYER, "digest": alias.to_string(), "size": layer.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": describe(OCI_CONFIG, &config), "layers": [descriptor]});
    http.push("team/app", "by512", &Content::of(OCI_MANIFEST, &manifest, vec![config]));
    let empty = Bytes::from_static(b"{}");
    let mut embedded = describe(SPDX, &layer);
    embedded["data"] = json!(STANDARD.encode(&layer));
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": SPDX,
        "config": describe(EMPTY_JSON, &empty), "layers": [embedded], "subject": image.descriptor()});
    let evidence = Content::of(OCI_MANIFEST, &manifest, vec![empty, layer]);
    http.push_by_digest("team/app", &evidence);
    http.manifest("team/app", &evidence.digest().to_string()).is(403);
}

#[test]
fn embedded_bytes_pass_no_more_than_the_blob_would() {
    let (world, image, layer) = with_rejected();
    let (http, empty) = (world.daemon.http(), Bytes::from_static(b"{}"));
    let with_data = |mut descriptor: Value| {
        descriptor["data"] = json!(STANDARD.encode(&layer));
        descriptor
    };
    let base = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": SPDX,
        "config": describe(EMPTY_JSON, &empty), "layers": [describe(SPDX, &empty)], "subject": image.descriptor()});
    // In the config, in the subject, under the digest of `{}`: bytes that nobody verified.
    for place in ["config", "subject", "layers"] {
        let mut manifest = base.clone();
        match place {
            "layers" => manifest["layers"] = json!([with_data(describe(SPDX, &empty))]),
            _ => manifest[place] = with_data(manifest[place].clone()),
        }
        let content = Content::of(OCI_MANIFEST, &manifest, vec![empty.clone()]);
        for reference in [content.digest().to_string(), image.digest_tag(".sbom")] {
            let answer = http.try_send(
                Method::PUT,
                &format!("/v2/team/app/manifests/{reference}"),
                OCI_MANIFEST,
                content.root().bytes.clone(),
            );
            let status = answer.expect("an answer").status;
            let read = http.manifest("team/app", &reference).status;
            assert!(status >= 400 || read == 403, "{place} at {reference}: taken with {status}, read with {read}");
        }
        let listed = http.get(&format!("/v2/team/app/referrers/{}", image.digest())).is(200).text();
        assert!(!listed.contains(&STANDARD.encode(&layer)[..40]), "a list of referrers embeds nothing");
    }
    assert_closed(&http, &["team/app", "open/app"], &image.top_layer());
}

#[test]
fn an_index_opens_its_own_children_and_only_where_it_is_accepted() {
    let (world, image, _) = with_rejected();
    let (http, client, release) = (world.daemon.http(), world.daemon.client(), Signer::new("release"));
    edit(&client, || world.home.trust().key("release", &release));
    let child = Image::small("child");
    let index = Index::new().child(&child, "linux", "amd64").build();
    let wide = Index::new().child(&child, "linux", "amd64").child(&image, "linux", "arm64").build();
    http.push("team/app", "index", &index);
    http.push("team/app", "wide", &wide);
    http.push("team/app", &index.digest_tag(".sig"), &release.signature_of(&index));
    client.becomes("localhost/team/app:index", State::Verified);
    http.blob("team/app", &child.top_layer()).is(200);
    // The rejected image shares an index with the accepted one, but not an accepted index.
    assert_closed(&http, &["team/app"], &image.top_layer());
    // A signed index that is attached accepts nothing, whichever way it is attached.
    let hidden = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image.descriptor()],
        "subject": child.descriptor()});
    let hidden = Content::of(OCI_INDEX, &hidden, Vec::new());
    http.push_by_digest("team/app", &hidden);
    http.push("team/app", &hidden.digest_tag(".sig"), &release.signature_of(&hidden));
    let plain = Index::new().entry(&image, image.descriptor()).build();
    for suffix in ["", ".sig", ".att", ".other"] {
        http.push("team/app", &child.digest_tag(suffix), &plain);
    }
    http.push("team/app", &plain.digest_tag(".sig"), &release.signature_of(&plain));
    assert_closed(&http, &["team/app"], &image.top_layer());
    // A child that is accepted by itself opens nothing of its sibling.
    http.push("team/app", &child.digest_tag(".sig"), &release.signature_of(&child));
    assert_closed(&http, &["team/app"], &image.top_layer());
}

#[test]
fn a_key_for_one_repository_opens_no_other() {
    let (world, image, _) = with_rejected();
    let (http, client, release) = (world.daemon.http(), world.daemon.client(), Signer::new("release"));
    world.home.trust().key_scope("release", &json!({"for": ["localhost/mirror/**"]}));
    edit(&client, || world.home.trust().key("release", &release));
    http.push("mirror/app", "1.0", &image);
    http.push("team/app", &image.digest_tag(".sig"), &release.signature_of(&image));
    client.becomes("localhost/mirror/app:1.0", State::Verified);
    http.blob("mirror/app", &image.top_layer()).is(200);
    http.blob("team/app", &image.top_layer()).is(403);
    http.blob("localhost/team/app", &image.top_layer()).is(403);
    http.manifest("team/app", &image.digest().to_string()).is(200);
    assert_eq!(http.blob("mirror/ap", &image.top_layer()).status, 404);
}
