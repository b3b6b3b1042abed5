//! Random facts and random trust folders, small enough that things meet.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use larder_core::check::SignedHash;
use larder_core::facts::Facts;
use larder_core::key::PublicKey;
use larder_core::policy::{TrustFiles, TrustSet, TrustView};
use larder_core::signature::{Format, Says, SignatureId};
use larder_core::verdict::State;
use larder_core::{Digest, Repository};
use serde_json::{Map, Value, json};

use crate::support;

const REPOSITORIES: [&str; 4] = ["docker.io/acme/app", "docker.io/acme/team/app", "quay.io/x/y", "localhost/store/app"];
const GLOBS: [&str; 8] = [
    "**",
    "docker.io/acme/*",
    "docker.io/**",
    "index.docker.io/acme/**",
    "quay.io/**",
    "localhost/**",
    "docker.io/acme/app@*",
    "docker.io/acme/app:1.0",
];
const FILES: [&str; 5] = ["a", "b", "c", "d", "e"];
const POLICIES: [&str; 3] = ["p", "q", "r"];
const KEYS: usize = 4;
const DIGESTS: u64 = 5;

const ATTRIBUTES: [&str; 5] = ["for", "validFor", "retired", "revoked", "plain"];
const KINDS: [&str; 7] = ["key file", "key data", "attestations", "static pass", "static fail", "unsupported", "warn"];
const PREDICATES: [&str; 2] = ["https://spdx.dev/Document", "https://example.org/report"];
const FAULTS: [&str; 12] = [
    "no key",
    "broken settings",
    "broken policy",
    "two documents",
    "doubled key",
    "unknown setting",
    "unknown denial",
    "invalid glob",
    "no authorities",
    "no images",
    "empty",
    "oversize",
];

/// A small generator (SplitMix64): the same seed gives the same case on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Mixed first: neighbouring seeds would otherwise give the same numbers, one place on.
        Self(Self(seed).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// What occurred, by kind and name.
#[derive(Default)]
pub(crate) struct Occurred(BTreeMap<(&'static str, &'static str), u64>);

impl Occurred {
    fn count(&mut self, kind: &'static str, name: &'static str) {
        *self.0.entry((kind, name)).or_default() += 1;
    }

    pub(crate) fn state(&mut self, state: State) {
        self.count("state", state.name());
    }

    /// Prints what occurred and fails where something never did, or where the property never bit.
    pub(crate) fn finish(self, property: &str, bit: u64) {
        let states: Vec<&'static str> = State::ALL.into_iter().map(State::name).collect();
        let wanted: [(&'static str, &[&'static str]); 4] =
            [("state", &states), ("key", &ATTRIBUTES), ("policy", &KINDS), ("fault", &FAULTS)];
        let mut never = Vec::new();
        for (kind, names) in wanted {
            let counted: Vec<String> = names
                .iter()
                .map(|name| {
                    let count = self.0.get(&(kind, *name)).copied().unwrap_or_default();
                    if count == 0 {
                        never.push(*name);
                    }
                    format!("{name} {count}")
                })
                .collect();
            println!("{property}: {kind}: {}", counted.join(", "));
        }
        println!("{property}: it bit {bit} times");
        assert!(never.is_empty(), "{property}: never occurred: {never:?}");
        assert!(bit > 0, "{property}: nothing that it says anything about occurred");
    }
}

/// Returns one of few keys: files and signatures are to meet.
pub(crate) fn some_key(random: &mut Random) -> PublicKey {
    numbered_key(random.below(KEYS as u64))
}

fn numbered_key(number: u64) -> PublicKey {
    support::key(&format!("k{number}"))
}

/// The facts, and who really made each signature.
pub(crate) struct World {
    pub(crate) facts: Facts,
    pub(crate) now: Timestamp,
    /// The signatures that can be checked: their maker's number (none of ours beyond the last) and what they name.
    made: BTreeMap<SignatureId, (u64, SignedHash, Option<Digest>)>,
}

fn some_digest(random: &mut Random) -> Digest {
    Digest::of(format!("digest {}", random.below(DIGESTS)).as_bytes())
}

fn some_repository(random: &mut Random) -> Repository {
    // Mostly the same one, so that indexes and subjects meet.
    let place = if random.one_in(2) { 0 } else { random.below(REPOSITORIES.len() as u64) as usize };
    REPOSITORIES[place].parse().expect("a repository")
}

impl World {
    pub(crate) fn random(random: &mut Random) -> Self {
        let now = "2026-06-01T00:00:00Z".parse().expect("a time");
        let mut world = Self { facts: Facts::default(), now, made: BTreeMap::new() };
        for _ in 0..3 + random.below(5) {
            world.grow(random);
        }
        for _ in 0..random.below(3) {
            world.add_subject(random);
        }
        if !random.one_in(4) {
            for (signature, anchor, key) in world.missing() {
                if !random.one_in(10) {
                    world.check(signature, anchor, key);
                }
            }
        }
        world
    }

    /// Brings something; returns the digests that it touched.
    pub(crate) fn grow(&mut self, random: &mut Random) -> Vec<Digest> {
        match random.below(12) {
            0..=2 => self.add_subject(random),
            3..=4 => {
                let (repository, child, index) = (some_repository(random), some_digest(random), some_digest(random));
                self.facts.add_subject(&repository, child, self.now);
                if !random.one_in(4) {
                    self.facts.add_subject(&repository, index, self.now);
                }
                self.facts.add_parent(&repository, child, index);
                vec![child, index]
            }
            5 if random.one_in(2) => {
                let (digest, corrupt) = (some_digest(random), !random.one_in(3));
                self.facts.set_corrupt(digest, corrupt);
                vec![digest]
            }
            6 if random.one_in(3) => {
                let (repository, digest) = (some_repository(random), some_digest(random));
                self.facts.add_uncounted(&repository, digest, 3);
                vec![digest]
            }
            _ => self.add_signature(random),
        }
    }

    fn add_subject(&mut self, random: &mut Random) -> Vec<Digest> {
        let digest = some_digest(random);
        self.facts.add_subject(&some_repository(random), digest, self.now);
        vec![digest]
    }

    fn add_signature(&mut self, random: &mut Random) -> Vec<Digest> {
        let at = some_digest(random);
        let format = match random.below(12) {
            0 => Format::Notation,
            1..=3 => Format::Bundle,
            _ => Format::SimpleSigning,
        };
        let names = match random.below(10) {
            0 => Some(some_digest(random)),
            1 => None,
            _ => Some(at),
        };
        let mut row = support::signature(self.made.len(), format, names, self.now);
        if format != Format::Notation && random.one_in(3) {
            row.says = Says::Attested((*random.pick(&PREDICATES)).into());
        }
        let hash = if random.one_in(4) { SignedHash::Sha512 } else { SignedHash::Sha256 };
        self.made.insert(row.id, (random.below(KEYS as u64 + 1), hash, names));
        self.facts.add_signature(row, &some_repository(random), at);
        names.into_iter().chain([at]).collect()
    }

    fn missing(&self) -> Vec<(SignatureId, larder_core::key::AnchorId, u64)> {
        let numbers: BTreeMap<_, u64> = (0..KEYS as u64).map(|number| (numbered_key(number).id(), number)).collect();
        let anchors: Vec<_> = numbers.keys().copied().collect();
        let missing = self.facts.missing_checks(&anchors, None);
        missing.into_iter().map(|(signature, anchor)| (signature, anchor, numbers[&anchor])).collect()
    }

    fn check(&mut self, signature: SignatureId, anchor: larder_core::key::AnchorId, key: u64) {
        let (maker, hash, _) = self.made[&signature];
        self.facts.record_check(signature, anchor, (maker == key).then_some(hash));
    }

    /// Computes all or some of the missing checks; returns the digests that the signatures name.
    pub(crate) fn compute_checks(&mut self, random: &mut Random) -> Vec<Digest> {
        let all = !random.one_in(3);
        let mut touched = Vec::new();
        for (signature, anchor, key) in self.missing() {
            if all || random.one_in(2) {
                self.check(signature, anchor, key);
                touched.extend(self.made[&signature].2);
            }
        }
        touched
    }
}

/// Writes a random folder without fault.
pub(crate) fn folder(random: &mut Random, occurred: &mut Occurred) -> TrustFiles {
    let mut files = TrustFiles::default();
    for name in FILES {
        if random.one_in(2) {
            put_key(random, &mut files, name, occurred);
        }
    }
    for name in POLICIES {
        if random.one_in(3) {
            put_policy(random, &mut files, name, occurred);
        }
    }
    if random.one_in(4) {
        put_deny(random, &mut files);
    }
    files
}

/// Changes one or two files, and leaves no fault.
pub(crate) fn edit(random: &mut Random, files: &mut TrustFiles, occurred: &mut Occurred) {
    for _ in 0..1 + random.below(2) {
        match random.below(6) {
            0 | 1 => {
                let name = *random.pick(&FILES);
                put_key(random, files, name, occurred);
            }
            2 => {
                let name = *random.pick(&FILES);
                files.0.remove(&format!("keys/{name}.pub"));
            }
            3 => {
                let name = *random.pick(&POLICIES);
                put_policy(random, files, name, occurred);
            }
            4 => {
                let name = *random.pick(&POLICIES);
                files.0.remove(&format!("policies/{name}.yaml"));
            }
            _ if random.one_in(2) => put_deny(random, files),
            _ => {
                files.0.remove("deny.yaml");
            }
        }
    }
    assert_eq!(TrustSet::read(files).faults, [], "an edit is to leave no fault");
}

/// Reads the files as a settled or a disturbed folder, or one that is gone.
pub(crate) fn view(random: &mut Random, files: &TrustFiles, occurred: &mut Occurred) -> TrustView {
    let settled = TrustSet::read(files).set;
    match random.below(12) {
        0 => TrustView::Starting,
        1 => TrustView::Missing { settled },
        2..=4 => {
            let mut broken = files.clone();
            break_something(random, &mut broken, occurred);
            TrustView::Disturbed { settled, readable: TrustSet::read(&broken).set }
        }
        _ => TrustView::Settled(settled),
    }
}

fn globs(random: &mut Random) -> Vec<&'static str> {
    (0..1 + random.below(2)).map(|_| *random.pick(&GLOBS)).collect()
}

/// Some day within two months of the beginning.
fn day(random: &mut Random) -> String {
    let start: Timestamp = "2026-06-01T00:00:00Z".parse().expect("a time");
    let day = start + SignedDuration::from_hours(24 * (random.below(120).cast_signed() - 60));
    if random.one_in(2) { day.to_string() } else { day.to_string()[..10].to_owned() }
}

fn put_key(random: &mut Random, files: &mut TrustFiles, name: &'static str, occurred: &mut Occurred) {
    let mut settings = Map::new();
    let mut set = |occurred: &mut Occurred, attribute: &'static str, value: Value| {
        occurred.count("key", attribute);
        settings.insert(attribute.to_owned(), value);
    };
    if random.one_in(4) {
        set(occurred, "for", json!(globs(random)));
    }
    if random.one_in(5) {
        let value = match random.below(3) {
            0 => json!({"start": day(random)}),
            1 => json!({"end": day(random)}),
            _ => json!({"start": day(random), "end": day(random)}),
        };
        set(occurred, "validFor", value);
    }
    if random.one_in(12) {
        set(occurred, "retired", json!({"at": day(random)}));
    }
    if random.one_in(8) {
        let value = match random.below(3) {
            0 => json!({"reason": "leaked"}),
            1 => json!({"since": day(random)}),
            _ => Value::Null,
        };
        set(occurred, "revoked", value);
    }
    files.0.remove(&format!("keys/{name}.yaml"));
    if settings.is_empty() {
        occurred.count("key", "plain");
    }
    let settings = (!settings.is_empty()).then_some(Value::Object(settings));
    support::add_key(files, name, &some_key(random), settings.as_ref());
}

fn authority(random: &mut Random, occurred: &mut Occurred) -> Value {
    match random.below(10) {
        0..=3 => {
            occurred.count("policy", "key file");
            let mut key = json!({"secretRef": {"name": random.pick(&FILES)}});
            if random.one_in(4) {
                key["hashAlgorithm"] = json!(random.pick(&["sha256", "sha512"]));
            }
            let mut authority = json!({ "key": key });
            if random.one_in(3) {
                occurred.count("policy", "attestations");
                let wanted: Vec<Value> =
                    (0..1 + random.below(2)).map(|_| json!({"predicateType": random.pick(&PREDICATES)})).collect();
                authority["attestations"] = json!(wanted);
            }
            if random.one_in(6) {
                authority["signatureFormat"] = json!(random.pick(&["legacy", "bundle"]));
            }
            if random.one_in(8) {
                authority["source"] = json!([{"oci": some_repository(random).to_string()}]);
            }
            authority
        }
        4 | 5 => {
            occurred.count("policy", "key data");
            json!({"key": {"data": some_key(random).to_pem()}})
        }
        6 => {
            occurred.count("policy", "static pass");
            json!({"static": {"action": "pass"}})
        }
        7 => {
            occurred.count("policy", "static fail");
            json!({"static": {"action": "fail", "message": "no"}})
        }
        8 => {
            occurred.count("policy", "unsupported");
            json!({"key": {"secretRef": {"name": random.pick(&FILES)}}, "frobnicate": 1})
        }
        _ => {
            occurred.count("policy", "unsupported");
            json!({"keyless": {"identities": []}})
        }
    }
}

fn put_policy(random: &mut Random, files: &mut TrustFiles, name: &str, occurred: &mut Occurred) {
    let images: Vec<Value> = globs(random).into_iter().map(|glob| json!({ "glob": glob })).collect();
    let authorities: Vec<Value> = (0..1 + random.below(3)).map(|_| authority(random, occurred)).collect();
    let mut spec = json!({"images": images, "authorities": authorities});
    if random.one_in(4) {
        occurred.count("policy", "warn");
        spec["mode"] = json!("warn");
    }
    if random.one_in(10) {
        occurred.count("policy", "unsupported");
        spec["policy"] = json!({"type": "cue"});
    }
    files.0.insert(format!("policies/{name}.yaml"), support::file(&support::policy(&spec)));
}

fn put_deny(random: &mut Random, files: &mut TrustFiles) {
    let digests: Vec<Value> =
        (0..random.below(2)).map(|_| json!({"digest": some_digest(random), "reason": "bad"})).collect();
    let keys: Vec<Value> = (0..random.below(2)).map(|_| json!({"key": random.pick(&FILES)})).collect();
    let identities = json!([{"issuer": "https://issuer.example", "subject": "me", "reason": "idle"}]);
    let deny = json!({"digests": digests, "keys": keys, "identities": identities});
    files.0.insert("deny.yaml".to_owned(), support::file(&deny));
}

/// Breaks one file, or adds a broken one; nothing else in the folder changes.
pub(crate) fn break_something(random: &mut Random, files: &mut TrustFiles, occurred: &mut Occurred) {
    let fault = *random.pick(&FAULTS);
    occurred.count("fault", fault);
    // Settings are only read beside a key.
    let key = *random.pick(&FILES);
    let (public, settings) = (format!("keys/{key}.pub"), format!("keys/{key}.yaml"));
    files.0.entry(public.clone()).or_insert_with(|| Bytes::from(numbered_key(0).to_pem()));
    let policy = format!("policies/{}.yaml", random.pick(&POLICIES));
    let good = json!({"images": [{"glob": "**"}], "authorities": [{"static": {"action": "pass"}}]});
    let broken_policy = |change: &dyn Fn(&mut Value)| {
        let mut spec = good.clone();
        change(&mut spec);
        support::file(&support::policy(&spec))
    };
    let (path, bytes) = match fault {
        "no key" => (public, Bytes::from("-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n")),
        "broken settings" => (settings, Bytes::from("for: [\"**\"\nrevoked: {")),
        "broken policy" => (policy, Bytes::from("spec:\n  images: [\n")),
        "two documents" => {
            let one = broken_policy(&|_| ());
            (policy, Bytes::from([&one[..], b"\n---\n", &one[..]].concat()))
        }
        "doubled key" => (settings, Bytes::from("for: [\"**\"]\nfor: [\"quay.io/**\"]\n")),
        "unknown setting" => (settings, Bytes::from("revokd: {reason: typo}\n")),
        "unknown denial" => ("deny.yaml".to_owned(), Bytes::from("digest: []\n")),
        "invalid glob" => (policy, broken_policy(&|spec| spec["images"][0]["glob"] = json!("a b"))),
        "no authorities" => (policy, broken_policy(&|spec| spec["authorities"] = json!([]))),
        "no images" => (policy, broken_policy(&|spec| spec["images"] = json!([]))),
        "empty" => (settings, Bytes::from("# nothing yet\n")),
        _ => (policy, Bytes::from(vec![b'#'; larder_core::policy::MAX_FILE_BYTES + 1])),
    };
    files.0.insert(path.clone(), bytes);
    let reading = TrustSet::read(files);
    assert!(reading.faults.iter().any(|found| found.path == path), "{fault} in {path}: {:?}", reading.faults);
}
