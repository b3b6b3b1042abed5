//! The gate against who wants past it: what a rejected image consists of must not be readable by any other way.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use harness::image::{OCI_CONFIG, OCI_LAYER, describe, digest_tag, noise};
use harness::signer::{SIMPLE_SIGNING, signature_image};
use harness::{Client, Content, Http, Image, Index, Raw, Signer};
use http::Method;
use larder_core::Digest;
use larder_core::digest::Algorithm;
use larder_core::manifest::{OCI_INDEX, OCI_MANIFEST};
use larder_proto::v1::State;
use serde_json::{Value, json};

use crate::world::{APP, World};

const SPDX: &str = "application/spdx+json";
const EMPTY_JSON: &str = "application/vnd.oci.empty.v1+json";

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
fn referrer(subject: &Content, media_type: &str, config: (&str, &Bytes), layers: &[Bytes]) -> Content {
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

// ---- The model: what the gate should say, worked out anew from everything that was pushed.

const REPOSITORIES: [&str; 3] = ["one/app", "two/app", "three/app"];
/// Key names, and the repositories that each is for.
const KEYS: [(&str, &[&str]); 2] = [("narrow", &["one/app"]), ("wide", &REPOSITORIES)];
const STEPS: usize = 90;
const STEP_KINDS: usize = 8;

/// A manifest in a repository, as the model sees it.
#[derive(Clone, Debug, Default)]
struct Held {
    subject: bool,
    attached: bool,
    evidence: bool,
    is_index: bool,
    lists: BTreeSet<Digest>,
}

#[derive(Default)]
struct Model {
    held: BTreeMap<(&'static str, Digest), Held>,
    signed: BTreeSet<(Digest, &'static str)>,
    keys: BTreeSet<&'static str>,
}

impl Model {
    fn is_accepted(&self, repository: &'static str, digest: &Digest) -> bool {
        if !self.held.get(&(repository, *digest)).is_some_and(|held| held.subject) {
            return false;
        }
        let counts = |(key, scope): &(&'static str, &[&str])| {
            self.keys.contains(key) && scope.contains(&repository) && self.signed.contains(&(*digest, *key))
        };
        let parent = |(place, parent): &(&'static str, Digest), held: &Held| {
            *place == repository
                && held.is_index
                && held.subject
                && held.lists.contains(digest)
                && self.is_accepted(repository, parent)
        };
        KEYS.iter().any(counts) || self.held.iter().any(|(place, held)| parent(place, held))
    }

    fn is_open(&self, repository: &'static str, blob: &Digest) -> bool {
        let reached =
            *blob != Digest::of(b"{}") && self.held.values().any(|held| held.subject && held.lists.contains(blob));
        self.held.iter().filter(|((place, _), held)| *place == repository && held.lists.contains(blob)).any(
            |((_, digest), held)| match held.subject {
                true => self.is_accepted(repository, digest),
                false => held.attached && held.evidence && !reached,
            },
        )
    }
}

/// A cheap pseudo-random sequence, the same at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or_default()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// A walk over the daemon and the model at once.
struct Walk<'a> {
    world: &'a World,
    client: Client,
    http: Http,
    dice: Dice,
    model: Model,
    layers: Vec<Bytes>,
    images: Vec<Content>,
    indexes: Vec<Content>,
    /// Everything that is asked for.
    blobs: BTreeSet<Digest>,
    done: [usize; STEP_KINDS],
}

impl Walk<'_> {
    /// Pushes a manifest under a tag or (without one) its digest; its blobs are here already.
    fn put(&mut self, repository: &'static str, tag: Option<&str>, content: &Content) {
        for blob in content.blobs() {
            self.upload(blob);
        }
        let root = content.root();
        let reference = tag.map_or_else(|| root.digest().to_string(), str::to_owned);
        self.http.put_manifest(repository, &reference, &root.media_type, root.bytes.clone()).is(201);
        self.blobs.insert(root.digest());
        self.blobs.extend(lists(content));
    }

    fn upload(&self, blob: &Bytes) {
        let path = format!("/v2/up/load/blobs/uploads/?digest={}", Digest::of(blob));
        self.http.send(Method::POST, &path, "application/octet-stream", blob.clone()).is(201);
    }

    fn hold(&mut self, repository: &'static str, content: &Content, evidence: bool) -> &mut Held {
        let held = self.model.held.entry((repository, content.digest())).or_default();
        held.evidence = evidence;
        held.is_index = content.root().media_type == OCI_INDEX;
        held.lists = lists(content);
        held
    }

    /// The images that a repository has, in whatever role.
    fn images_in(&self, repository: &'static str) -> Vec<Content> {
        let is_held = |image: &&Content| self.model.held.contains_key(&(repository, image.digest()));
        self.images.iter().filter(is_held).cloned().collect()
    }

    fn step(&mut self, number: usize) {
        let kind = if number < STEP_KINDS { number } else { self.dice.below(STEP_KINDS) };
        let repository = self.dice.pick(&REPOSITORIES);
        let image = self.dice.pick(&self.images.clone());
        match kind {
            0 => {
                self.put(repository, Some(&format!("t{number}")), &image);
                self.hold(repository, &image, false).subject = true;
            }
            1 => self.sign(repository, &image),
            2 => {
                let layers = vec![self.dice.pick(&self.layers.clone()), self.dice.pick(&self.layers.clone())];
                let evidence = self.dice.below(3) > 0;
                let media_type = if evidence { SPDX } else { OCI_LAYER };
                let content = referrer(&image, media_type, (EMPTY_JSON, &Bytes::from_static(b"{}")), &layers);
                self.put(repository, None, &content);
                self.hold(repository, &content, evidence).attached = true;
            }
            3 => {
                // An image where only signatures belong.
                let other = self.dice.pick(&self.images.clone());
                let suffix = self.dice.pick(&[".sig", ".att", ".sbom"]);
                self.put(repository, Some(&digest_tag(&other.digest(), suffix)), &image);
                self.hold(repository, &image, false).attached = true;
            }
            4 | 5 => self.index(number, repository, &image, kind == 4),
            6 => {
                let from = self.dice.pick(&REPOSITORIES);
                let blob = Digest::of(&self.dice.pick(&self.layers.clone()));
                let mount = format!("/v2/{repository}/blobs/uploads/?mount={blob}&from={from}");
                let status = self.http.send(Method::POST, &mount, "", Bytes::new()).status;
                assert_eq!(status, if self.model.is_open(from, &blob) { 201 } else { 202 }, "a mount from {from}");
            }
            _ => self.turn_a_key(),
        }
        self.done[kind] += 1;
    }

    fn sign(&mut self, repository: &'static str, image: &Content) {
        let (key, _) = self.dice.pick(&KEYS);
        let whole = if self.indexes.is_empty() || self.dice.below(3) > 0 {
            image.clone()
        } else {
            self.dice.pick(&self.indexes.clone())
        };
        let signature = signature_image(&[Signer::new(key).sign(&whole.digest())]);
        self.put(repository, Some(&whole.digest_tag(".sig")), &signature);
        self.hold(repository, &signature, true).attached = true;
        self.model.signed.insert((whole.digest(), key));
    }

    /// Pushes an index of what the repository has, by a tag or as a fallback index.
    fn index(&mut self, number: usize, repository: &'static str, image: &Content, by_tag: bool) {
        let there = self.images_in(repository);
        if there.is_empty() {
            return;
        }
        let children = [self.dice.pick(&there), self.dice.pick(&there)];
        let descriptors: Vec<_> = children.iter().map(Content::descriptor).collect();
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors});
        let index = Content::of(OCI_INDEX, &index, Vec::new());
        if by_tag {
            self.put(repository, Some(&format!("t{number}")), &index);
            self.hold(repository, &index, false).subject = true;
            for child in &children {
                self.hold(repository, child, false).subject = true;
            }
            self.indexes.push(index);
        } else {
            self.put(repository, Some(&image.digest_tag("")), &index);
            self.hold(repository, &index, false).attached = true;
        }
    }

    fn turn_a_key(&mut self) {
        let (key, _) = self.dice.pick(&KEYS);
        let trust = self.world.home.trust();
        if self.model.keys.remove(key) {
            edit(&self.client, || trust.remove_key(key));
        } else {
            edit(&self.client, || trust.key(key, &Signer::new(key)));
            self.model.keys.insert(key);
        }
    }

    /// Asks for every blob in every repository; returns how many were open, and how many closed although they are here.
    fn compare(&self, number: usize) -> (usize, usize) {
        let mut connection = Raw::connect(self.world.daemon.endpoint());
        let (mut open, mut closed) = (0, 0);
        for repository in REPOSITORIES {
            for blob in &self.blobs {
                let status = harness::eventually("an answer that is not pending", || {
                    connection.ask(&format!("GET /v2/{repository}/blobs/{blob}"), "");
                    let status = connection.answer().expect("an answer").0.status;
                    (status != 503).then_some(status)
                });
                assert!(matches!(status, 200 | 403 | 404), "step {number}: {blob} in {repository}: {status}");
                let expected = self.model.is_open(repository, blob);
                assert_eq!(status == 200, expected, "step {number}: {blob} in {repository} gave {status}");
                open += usize::from(status == 200);
                closed += usize::from(status == 403);
            }
        }
        (open, closed)
    }
}

/// The digests that a manifest lists.
fn lists(content: &Content) -> BTreeSet<Digest> {
    let manifest: Value = serde_json::from_slice(&content.root().bytes).expect("a manifest");
    let arrays = ["layers", "manifests"].into_iter().flat_map(|name| manifest[name].as_array().into_iter().flatten());
    arrays
        .chain([&manifest["config"]])
        .filter_map(|descriptor| descriptor["digest"].as_str())
        .map(|digest| digest.parse().expect("a digest"))
        .collect()
}

#[test]
fn the_gate_opens_what_the_model_opens_after_any_history() {
    let world = World::start();
    // Which key is for which repository is there from the start; keys come and go.
    for (key, scope) in KEYS {
        let globs: Vec<_> = scope.iter().map(|repository| format!("localhost/{repository}")).collect();
        world.home.trust().key_scope(key, &json!({"for": globs}));
    }
    let world = world.restart();
    let layers: Vec<_> = (0..6).map(|number| noise(&format!("layer {number}"), 300)).collect();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let images = (0..6)
        .map(|number| {
            let image = Image::new(&format!("image {number}"));
            image.layer(dice.pick(&layers)).layer(dice.pick(&layers)).build()
        })
        .collect();
    let mut walk = Walk {
        client: world.daemon.client(),
        http: world.daemon.http(),
        dice,
        model: Model::default(),
        images,
        indexes: Vec::new(),
        blobs: layers.iter().map(|layer| Digest::of(layer)).collect(),
        layers,
        done: [0; STEP_KINDS],
        world: &world,
    };
    for layer in walk.layers.clone() {
        walk.upload(&layer);
    }
    let (mut open, mut closed) = (0, 0);
    for number in 0..STEPS {
        walk.step(number);
        let (more_open, more_closed) = walk.compare(number);
        open += more_open;
        closed += more_closed;
    }
    println!("{STEPS} steps {:?}: {open} times open, {closed} times closed", walk.done);
    assert!(walk.done.iter().all(|count| *count > 0), "a kind of step that never came: {:?}", walk.done);
    assert!(open > 100 && closed > 100, "both must occur often: {open}, {closed}");
}
