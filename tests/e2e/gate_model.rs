//! The gate beside a model of it: what should be open is worked out anew from everything that was pushed, after every step of
//! a walk over images, indexes, signatures, evidence, mounts and keys.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use harness::image::{OCI_LAYER, digest_tag, noise};
use harness::signer::signature_image;
use harness::{Client, Content, Http, Image, Raw, Signer};
use http::Method;
use larder_core::Digest;
use larder_core::manifest::OCI_INDEX;
use serde_json::{Value, json};

use crate::gate::{EMPTY_JSON, SPDX, edit, referrer};
use crate::world::World;

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
