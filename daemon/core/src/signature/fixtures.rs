//! Signatures that real cosign made, read and checked.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use super::found::{self, FoundSignature};
use super::simple_signing::{self, append};
use crate::check::{SignedHash, check};
use crate::digest::Digest;
use crate::key::PublicKey;
use crate::manifest::Manifest;
use crate::signature::{Format, Says};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cosign");

fn file(path: &str) -> Vec<u8> {
    std::fs::read(format!("{FOLDER}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&file(path)).expect(path)
}

fn blob(repository: &str, digest: &Digest) -> Bytes {
    let bytes = file(&format!("layouts/{repository}/blobs/sha256/{}", digest.hex()));
    assert_eq!(Digest::of(&bytes), *digest);
    bytes.into()
}

/// Returns every tag of a layout with its manifest's digest.
fn tags(repository: &str) -> Vec<(String, Digest)> {
    let index = json(&format!("layouts/{repository}/index.json"));
    let entries = index["manifests"].as_array().expect("manifests");
    entries
        .iter()
        .filter_map(|entry| {
            let tag = entry["annotations"]["org.opencontainers.image.ref.name"].as_str()?;
            Some((tag.to_owned(), entry["digest"].as_str()?.parse().expect("digest")))
        })
        .collect()
}

fn manifest(repository: &str, digest: &Digest) -> Manifest {
    Manifest::parse_as(blob(repository, digest), None, *digest).expect("manifest")
}

/// Reads what hangs at a digest's `.sig` tag.
fn signatures(repository: &str, subject: &Digest) -> Vec<FoundSignature> {
    let wanted = format!("sha256-{}.sig", subject.hex());
    let Some((_, digest)) = tags(repository).into_iter().find(|(tag, _)| *tag == wanted) else { return Vec::new() };
    found::read(&manifest(repository, &digest), |layer| Some(blob(repository, &layer.digest)))
}

fn key(name: &str) -> PublicKey {
    PublicKey::from_pem(&file(&format!("keys/{name}"))).expect(name)
}

#[test]
fn every_verification_by_key_comes_out_as_it_is_true() {
    let mut accepted = 0;
    let mut rejected = 0;
    let expected = json("expected.json");
    for case in expected["cases"].as_array().expect("cases") {
        let arguments: Vec<&str> = case["args"].as_array().expect("args").iter().filter_map(Value::as_str).collect();
        let ["verify", "--key", key_name] = arguments[..] else { continue };
        let reference = case["ref"].as_str().expect("ref");
        let (repository, tag) = reference.split_once(':').expect("tag");
        let subject: Digest = case["digest"].as_str().expect("digest").parse().expect("digest");
        let exit = case["cosign2"]["exit"].as_i64().expect("exit");
        // cosign fails its own signatures by these keys, for it tries SHA-256 only; they are good ones. Bundles
        // it does not see, so that its answers are about classic signatures alone.
        let own_key = format!("imp-{}.pub", tag.replace("ec-p-", "ec-P-"));
        let hash_by_curve =
            repository == "keys" && own_key == key_name && matches!(tag, "ec-p-384" | "ec-p-521" | "ed25519");
        let truth = exit == 0 || hash_by_curve;

        let found = signatures(repository, &subject);
        let key = key(key_name);
        let accepts = found.iter().any(|found| found.names == Some(subject) && check(found, &key).is_some());
        assert_eq!(accepts, truth, "{reference} {key_name}");
        assert_eq!(found.is_empty(), exit == 10, "{reference}: cosign finds what we find");
        *if accepts { &mut accepted } else { &mut rejected } += 1;
    }
    assert!(accepted >= 14 && rejected >= 30, "{accepted} accepted, {rejected} rejected");
}

#[test]
fn the_hash_is_found_out() {
    for (tag, key_name, hash) in [
        ("nopass", "nopass.pub", SignedHash::Sha256),
        ("rsa4096", "imp-rsa4096.pub", SignedHash::Sha256),
        ("ec-p-384", "imp-ec-P-384.pub", SignedHash::Sha384),
        ("ec-p-521", "imp-ec-P-521.pub", SignedHash::Sha512),
        ("ed25519", "imp-ed25519.pub", SignedHash::Sha512),
    ] {
        let (_, subject) = tags("keys").into_iter().find(|(name, _)| name == tag).expect(tag);
        let found = signatures("keys", &subject);
        assert_eq!(found.len(), 1, "{tag}");
        assert_eq!(check(&found[0], &key(key_name)), Some(hash), "{tag}");
    }
}

#[test]
fn a_replayed_signature_is_good_and_names_another_image() {
    let (_, subject) = tags("replayed").into_iter().find(|(tag, _)| tag == "1").expect("tag");
    let found = signatures("replayed", &subject);
    assert!(check(&found[0], &key("p256.pub")).is_some());
    assert!(found[0].names.is_some_and(|named| named != subject));
}

/// Everything that hangs at a digest in a layout, by signature tags and by referrers.
fn hanging(repository: &str, subject: &Digest) -> Vec<FoundSignature> {
    let mut manifests: Vec<Manifest> = Vec::new();
    for (tag, digest) in tags(repository) {
        if tag.starts_with(&format!("sha256-{}.", subject.hex())) {
            manifests.push(manifest(repository, &digest));
        }
    }
    for entry in std::fs::read_dir(format!("{FOLDER}/layouts/{repository}/blobs/sha256")).expect("blobs") {
        let bytes = std::fs::read(entry.expect("entry").path()).expect("blob");
        let Ok(manifest) = Manifest::parse(bytes.into(), None) else { continue };
        if manifest.subject().is_some_and(|of| of.digest == *subject) {
            manifests.push(manifest);
        }
    }
    manifests.iter().flat_map(|one| found::read(one, |layer| Some(blob(repository, &layer.digest)))).collect()
}

#[test]
fn bundles_and_attestations_of_cosign_are_checked() {
    let (_, classic) = tags("single").into_iter().find(|(tag, _)| tag == "1.0.0").expect("tag");
    let (_, bundles) = tags("single").into_iter().find(|(tag, _)| tag == "1.1.0").expect("tag");
    for (subject, format) in [(classic, Format::Attestation), (bundles, Format::Bundle)] {
        let found: Vec<_> = hanging("single", &subject).into_iter().filter(|found| found.format == format).collect();
        assert!(found.len() >= 2, "{format:?}");
        for found in &found {
            assert_eq!((found.names, found.fault.as_deref()), (Some(subject), None));
            assert!(check(found, &key("p256.pub")).is_some() && check(found, &key("other.pub")).is_none());
        }
        let signs = found.iter().filter(|found| found.says == Says::Signed).count();
        assert_eq!(signs, usize::from(format == Format::Bundle));
        let custom = Says::Attested("https://cosign.sigstore.dev/attestation/v1".into());
        assert!(found.iter().any(|found| found.says == custom), "{format:?}");
    }
}

#[test]
fn bundles_by_every_algorithm() {
    let mut checked = 0;
    for (tag, subject) in tags("keys-bundle").into_iter().filter(|(tag, _)| !tag.starts_with("sha256-")) {
        let key = match tag.as_str() {
            "nopass" => key("nopass.pub"),
            tag => key(&format!("imp-{}.pub", tag.replace("ec-p-", "ec-P-"))),
        };
        let found = hanging("keys-bundle", &subject);
        assert_eq!(found.len(), 1, "{tag}");
        assert!(check(&found[0], &key).is_some(), "{tag}");
        checked += 1;
    }
    assert!(checked >= 6, "{checked}");
}

#[test]
fn writes_payloads_and_images_byte_for_byte_as_cosign() {
    let mut images = 0;
    for repository in ["single", "docker", "multi", "nested", "keys", "mixed", "replayed"] {
        for (tag, digest) in tags(repository).into_iter().filter(|(tag, _)| tag.ends_with(".sig")) {
            let cosigns = manifest(repository, &digest);
            let mut ours: Option<Manifest> = None;
            let mut config = Bytes::new();
            for found in found::read(&cosigns, |layer| Some(blob(repository, &layer.digest))) {
                let said: Value = serde_json::from_slice(&found.payload).expect("JSON");
                let annotations = serde_json::from_value::<Option<_>>(said["optional"].clone()).expect("optional");
                let claims = found.claims.as_deref().expect("claims");
                let written =
                    simple_signing::payload(claims, &found.names.expect("digest"), &annotations.unwrap_or_default());
                assert_eq!(found.payload, written, "{repository}:{tag}");
                let image = append(ours.as_ref(), &found.payload, &found.signature, BTreeMap::new()).expect("new");
                ours = Some(Manifest::parse(image.manifest, None).expect("manifest"));
                config = image.config;
            }
            assert_eq!(ours.expect("a layer").raw(), cosigns.raw(), "{repository}:{tag}");
            let config_descriptor = cosigns.successors().next().expect("config");
            assert_eq!(config, blob(repository, &config_descriptor.digest), "{repository}:{tag}");
            images += 1;
        }
    }
    assert!(images >= 15, "{images}");
}
