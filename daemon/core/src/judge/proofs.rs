//! Keys whose signatures must be proven, keys that have an end, and conditions over what is attested: on a real bundle, which
//! npm's registry signed by its key and the public Rekor logged.

use std::sync::Arc;

use bytes::Bytes;
use jiff::SignedDuration;

use super::*;
use crate::check::check;
use crate::key::PublicKey;
use crate::keyless::{TrustedRoot, examine_by_key, examine_found};
use crate::manifest::Manifest;
use crate::policy::{CheckAnchor, TrustFiles};
use crate::signature::{FoundSignature, found};

const BUNDLE: &[u8] = include_bytes!("../../../../tests/fixtures/sigstore-go/bundle-publish.json");
const KEY: &str = include_str!("../../../../tests/fixtures/sigstore-go/publish_key.pub");
const PUBLIC: &str = include_str!("../../../../tests/fixtures/sigstore-go/trusted-root-public-good.json");
const OTHER: &str = include_str!("../../../../tests/fixtures/cosign/keyless/roots/good.json");
const TYPE: &str = "https://github.com/npm/attestation/tree/main/specs/publish/v0.1";

/// A subject with the attestation, everything of which is checked that a folder asks for.
struct World {
    repository: Repository,
    digest: Digest,
    found: FoundSignature,
    files: TrustFiles,
    seen: Timestamp,
}

/// Reads a bundle as it is found beside an image.
fn read(bundle: &[u8]) -> FoundSignature {
    let layer = format!(
        r#"{{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "digest": "{}", "size": {}}}"#,
        Digest::of(bundle),
        bundle.len()
    );
    let config = layer.replace("vnd.dev.sigstore.bundle.v0.3", "vnd.oci.empty.v1");
    let manifest = format!(
        r#"{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {config}, "layers": [{layer}]}}"#
    );
    let manifest = Manifest::parse(Bytes::from(manifest), None).expect("a manifest");
    let found = found::read(&manifest, |_| Some(Bytes::copy_from_slice(bundle))).remove(0);
    assert_eq!(found.fault, None);
    found
}

impl World {
    fn new() -> Self {
        let found = read(BUNDLE);
        assert_eq!(found.predicate_type(), Some(TYPE));
        let digest = found.names.expect("a digest");
        let repository = "quay.io/npm/package".parse().expect("a repository");
        let mut world = Self { repository, digest, found, files: TrustFiles::default(), seen: at("2026-01-01") };
        world.write("keys/npm.pub", KEY);
        world.write("roots/public.json", PUBLIC);
        world
    }

    fn write(&mut self, path: &str, text: &str) {
        self.files.0.insert(path.to_owned(), Bytes::copy_from_slice(text.as_bytes()));
    }

    /// Asks for the attestation by the key, and for more beside the key or in the entry.
    fn ask(&mut self, beside: &str, entry: &str) {
        let text = format!(
            "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nspec: {{images: [{{glob: '**'}}], authorities: \
             [{{name: npm, key: {{secretRef: {{name: npm}}}}{beside}, attestations: [{{name: published, predicateType: \
             '{TYPE}'{entry}}}]}}]}}\n"
        );
        self.write("policies/p.yaml", &text);
    }

    fn trust(&self) -> Arc<TrustSet> {
        let reading = TrustSet::read(&self.files);
        assert_eq!(reading.faults, []);
        reading.set
    }

    /// Checks the attestation against all that a set asks for, but for what `skip` names.
    fn facts(&self, trust: &TrustSet, skip: fn(&CheckAnchor) -> bool) -> Facts {
        let mut facts = Facts::default();
        facts.add_subject(&self.repository, self.digest, self.seen);
        facts.add_signature(self.found.row(Digest::of(b"manifest"), self.seen), &self.repository, self.digest);
        let id = self.found.id;
        for anchor in trust.check_anchors().into_iter().filter(|anchor| !skip(anchor)) {
            let name = anchor.id();
            match &anchor {
                CheckAnchor::Key(key) => facts.record_check(id, name, check(&self.found, key)),
                CheckAnchor::Root(root) => {
                    facts.record_evidence(id, name, examine_found(&self.found, &root.root).map(Arc::new));
                }
                CheckAnchor::Logged { key, root } => {
                    let evidence = examine_by_key(&self.found, key, &root.root).map(Arc::new);
                    facts.record_evidence(id, name, evidence);
                }
                CheckAnchor::Dated { key, root } => {
                    let evidence = examine_by_key(&self.found, key, &root.root);
                    facts.record_dated(id, name, evidence.and_then(|evidence| evidence.proven_since()));
                }
                CheckAnchor::Condition(condition) => {
                    facts.record_condition(id, name, condition.check(&self.found.payload).is_ok());
                }
            }
        }
        facts
    }

    fn verdict(&self) -> Verdict {
        self.verdict_without(|_| false)
    }

    fn verdict_without(&self, skip: fn(&CheckAnchor) -> bool) -> Verdict {
        let trust = self.trust();
        let facts = self.facts(&trust, skip);
        let verdict = judge(&facts, &trust, &self.repository, self.digest, at("2026-06-01"));
        let view = TrustView::Settled(trust);
        let (explained, node) = explain(&facts, &view, &self.repository, self.digest, at("2026-06-01"));
        assert_eq!(explained, verdict, "{node:?}");
        verdict
    }

    fn says(&self, state: State, reason: &str) {
        let verdict = self.verdict();
        let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
        assert_eq!(verdict.state, state, "{reasons:?}");
        assert!(reasons.iter().any(|one| one.starts_with(reason)), "{reason}: {reasons:?}");
    }

    /// Since when the public log says that the signature was there.
    fn logged(&self) -> Timestamp {
        let (key, root) = (PublicKey::from_pem(KEY.as_bytes()).expect("a key"), PUBLIC.as_bytes());
        let root = TrustedRoot::parse(root).expect("a root");
        examine_by_key(&self.found, &key, &root).and_then(|evidence| evidence.proven_since()).expect("a time")
    }
}

fn at(day: &str) -> Timestamp {
    format!("{day}T00:00:00Z").parse().expect("a time")
}

#[test]
fn a_log_must_have_what_a_key_signed_where_the_policy_says_so() {
    let mut world = World::new();
    world.ask("", "");
    world.says(State::Verified, "signed-by: npm");
    world.ask(", ctlog: {url: 'https://rekor.sigstore.dev'}", "");
    world.says(State::Verified, "signed-by: npm");
    world.ask(", ctlog: {trustRootRef: public}", "");
    world.says(State::Verified, "signed-by: npm");
    assert_eq!(world.verdict_without(|one| matches!(one, CheckAnchor::Logged { .. })).state, State::Pending);
    world.ask(", ctlog: {url: 'https://rekor.elsewhere.example'}", "");
    world.says(State::Untrusted, "root-missing");
    world.ask(", ctlog: {trustRootRef: elsewhere}", "");
    world.says(State::Untrusted, "root-missing: elsewhere");
    world.ask(", rfc3161timestamp: {}", "");
    world.says(State::Untrusted, "proof-missing: npm: timestamp: ");
    world.ask(", ctlog: {}, rfc3161timestamp: {}", "");
    world.says(State::Untrusted, "proof-missing: npm: timestamp: ");
    world.ask(", ctlog: {trustRootRef: public}, rfc3161timestamp: {trustRootRef: other}", "");
    world.says(State::Untrusted, "unsupported");
    world.ask(", ctlog: {}", "");
    world.write("roots/public.json", OTHER);
    world.says(State::Untrusted, "proof-missing: npm: log-entry: ");
    world.write("roots/second.json", PUBLIC);
    world.says(State::Verified, "signed-by: npm");
}

#[test]
fn what_a_key_signed_before_its_end_counts_where_that_is_proven() {
    let mut world = World::new();
    world.ask("", "");
    let logged = world.logged();
    let (before, after) = (logged - SignedDuration::from_secs(1), logged + SignedDuration::from_secs(1));
    for (end, state) in [
        (format!("retired: {{at: {after}}}"), State::Verified),
        (format!("retired: {{at: {logged}}}"), State::Revoked),
        (format!("retired: {{at: {before}}}"), State::Revoked),
        (format!("revoked: {{since: {after}, reason: leaked}}"), State::Verified),
        (format!("revoked: {{since: {before}, reason: leaked}}"), State::Revoked),
        (format!("revoked: {{since: {before}}}\nretired: {{at: {after}}}"), State::Revoked),
        (format!("revoked: {{since: {after}}}\nretired: {{at: {before}}}"), State::Revoked),
        (format!("revoked: {{reason: leaked}}\nretired: {{at: {after}}}"), State::Revoked),
        (format!("revoked: {{since: {after}}}\nretired: {{}}"), State::Revoked),
    ] {
        world.write("keys/npm.yaml", &end);
        world.says(state, if state == State::Verified { "signed-by" } else { "key-revoked: npm: " });
        if !end.contains("{}") && !end.contains("{reason") {
            let untold = world.verdict_without(|one| matches!(one, CheckAnchor::Dated { .. }));
            assert_eq!(untold.state, State::Pending, "{end}");
            assert!(!untold.reasons.is_empty());
        }
    }
    // Without a root that proves the time, its first sight here is all there is.
    world.files.0.remove("roots/public.json");
    world.write("keys/npm.yaml", "retired: {at: 2026-02-01}\n");
    world.says(State::Verified, "first-seen: npm");
    world.write("keys/npm.yaml", "retired: {at: 2025-12-01}\n");
    world.says(State::Revoked, "key-revoked");
    world.write("keys/npm.yaml", "revoked: {since: 2026-02-01}\n");
    world.says(State::Revoked, "key-revoked");
    world.write("keys/npm.yaml", "retired: {at: 2026-02-01}\nrevoked: {since: 2027-01-01}\n");
    world.says(State::Revoked, "key-revoked");
    world.write("keys/npm.yaml", "retired: {at: 2026-02-01}\n");
    world.write("deny.yaml", "keys: [{key: npm, reason: lost}]\n");
    world.says(State::Revoked, "key-revoked: npm: denied: lost");
}

#[test]
fn a_root_that_comes_or_goes_concerns_keys_that_have_an_end() {
    let mut world = World::new();
    world.write("keys/npm.yaml", "revoked: {since: 2026-02-01}\n");
    let with = TrustView::Settled(world.trust());
    world.files.0.remove("roots/public.json");
    let without = TrustView::Settled(world.trust());
    let now = at("2026-06-01");
    let facts = world.facts(&world.trust(), |_| false);
    let concern = Concern::between((&with, now), (&without, now));
    assert!(concern.covers(&facts, &world.repository, world.digest));
}

#[test]
fn a_condition_must_hold_for_what_is_attested() {
    let mut world = World::new();
    let rego = |body: &str| format!(", policy: {{type: rego, data: \"package sigstore\\n{body}\"}}");
    world.ask("", &rego("isCompliant { startswith(input.subject[0].name, \\\"pkg:npm/\\\") }"));
    world.says(State::Verified, "signed-by: npm");
    let untold = world.verdict_without(|one| matches!(one, CheckAnchor::Condition(_)));
    assert_eq!(untold.state, State::Pending);
    world.ask("", &rego("isCompliant { input.predicate.name == \\\"another\\\" }"));
    world.says(State::Untrusted, "condition-failed: published");
    world.ask("", &rego("allow { true }"));
    world.says(State::Untrusted, "condition-failed: published");
    for unsupported in [
        &rego("isCompliant {")[..],
        ", policy: {type: cue, data: 'predicate: {}'}",
        ", policy: {type: rego}",
        ", policy: {type: rego, configMapRef: {name: x}}",
        ", policy: {type: rego, data: \"package sigstore\\nisCompliant { true }\", includeSpec: true}",
    ] {
        world.ask("", unsupported);
        world.says(State::Untrusted, "unsupported: attestations[0].policy");
    }
}

#[test]
fn identities_that_a_policy_asks_for_are_signers() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cosign/keyless");
    let blobs = std::fs::read_dir(format!("{folder}/layouts/image-rekor1-tsa/blobs/sha256")).expect("a layout");
    let blobs = blobs.map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a blob"));
    let is_bundle = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains("\"verificationMaterial\"");
    let found = read(&blobs.into_iter().find(is_bundle).expect("a bundle"));
    let mut world = World::new();
    (world.digest, world.found) = (found.names.expect("a digest"), found);
    world.files = TrustFiles::default();
    world.write("roots/lab.json", OTHER);
    let policy = |globs: &str, subject: &str| {
        format!(
            "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nspec: {{images: [{{glob: '{globs}'}}], \
             authorities: [{{keyless: {{identities: [{{issuer: 'http://127.0.0.1:8400', subject: '{subject}'}}]}}}}]}}\n"
        )
    };
    let by = |world: &World, skip: fn(&CheckAnchor) -> bool| {
        let trust = world.trust();
        let facts = world.facts(&trust, skip);
        let ids = [world.found.id].into_iter().collect();
        let view = TrustView::Settled(trust);
        signed(&facts, &view, &world.repository, world.digest, &ids, at("2026-06-01"))
    };
    let all = |_: &CheckAnchor| false;
    assert_eq!(by(&world, all), Signed::Untrusted, "a root alone makes nobody trusted");
    let alice = Who { subject: "alice@example.com".to_owned(), issuer: "http://127.0.0.1:8400".to_owned() };
    world.write("policies/p.yaml", &policy("quay.io/**", "alice@example.com"));
    assert_eq!(by(&world, all), Signed::By(vec![Signer::Identity(alice)]));
    assert_eq!(by(&world, |one| matches!(one, CheckAnchor::Root(_))), Signed::Pending);
    world.write("policies/p.yaml", &policy("quay.io/**", "bob@example.com"));
    assert_eq!(by(&world, all), Signed::Untrusted, "nobody asks for her");
    world.write("policies/p.yaml", &policy("docker.io/**", "alice@example.com"));
    assert_eq!(by(&world, all), Signed::Untrusted, "she is asked for elsewhere");
    let denied = "identities: [{issuer: 'http://127.0.0.1:8400', subject: alice@example.com, reason: left}]\n";
    world.write("policies/p.yaml", &policy("quay.io/**", "alice@example.com"));
    world.write("deny.yaml", denied);
    assert_eq!(by(&world, all), Signed::Untrusted, "she is denied");
}
