//! Registries of others, and skopeo.

use std::fs;

use harness::fixtures::{Layout, cosign, public_key, repositories};
use harness::{Content, FakeRegistry, Home, Image, Signer};
use larder_proto::v1::State;
use serde_json::Value;

use crate::tools::{Registry, run, skopeo_copy};

/// A row of `expected.json` that asks for `verify --key K` and nothing else: (reference, key file, exit code of the truth).
fn rows() -> Vec<(String, String, i32)> {
    let text = fs::read_to_string(cosign().join("expected.json")).expect("expected.json");
    let expected: Value = serde_json::from_str(&text).expect("expected.json");
    let mut rows = Vec::new();
    for case in expected["cases"].as_array().expect("cases") {
        let words: Vec<_> = case["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let ["verify", "--key", key] = words[..] else { continue };
        let reference = case["ref"].as_str().expect("a reference");
        // Version 2 sees no bundles, version 3 classic signatures only where there is none; both refuse their own signatures by
        // some algorithms. The fixtures' README says what is true.
        let accepted = ["cosign2", "cosign3"].iter().any(|version| case[version]["exit"] == 0);
        let own_algorithm = reference.starts_with("keys") && key != "p256.pub";
        let truth = match accepted || own_algorithm {
            true => 0,
            false if reference == "single:2.0.0" => 10,
            false => 12,
        };
        rows.push((reference.to_owned(), key.to_owned(), truth));
    }
    rows
}

pub(crate) fn fixtures_from_a_registry_without_referrers() {
    let registry = Registry::docker();
    for repository in repositories() {
        Layout::open(&repository).push_to(&registry.http(), &repository);
    }
    let home = Home::new();
    let daemon = home.start();
    let rows = rows();
    assert_eq!(rows.len(), 54);
    for (reference, key, truth) in &rows {
        home.trust().write("keys/one.pub", public_key(key));
        daemon.client().trust_becomes("settled", 1, 0);
        let reference = format!("{}/{reference}", registry.host());
        let output = home.larder(["verify", &reference]);
        assert_eq!(output.code, *truth, "{reference} with {key}: {}", output.stderr);
        home.trust().remove_key("one");
        daemon.client().trust_becomes("settled", 0, 0);
    }
    println!("  {} rows of expected.json, verified without holding them", rows.len());
    for (reference, _, _) in &rows {
        home.larder(["pull", "--platform", "all", &format!("{}/{reference}", registry.host())]).exits(0);
    }
    for (reference, key, truth) in &rows {
        home.trust().write("keys/one.pub", public_key(key));
        daemon.client().trust_becomes("settled", 1, 0);
        let output = home.larder(["verify", &format!("{}/{reference}", registry.host())]);
        assert_eq!(output.code, *truth, "held, {reference} with {key}: {}", output.stderr);
        home.trust().remove_key("one");
        daemon.client().trust_becomes("settled", 0, 0);
    }
    home.assert_blobs_are_whole();
}

pub(crate) fn a_registry_with_referrers() {
    let (registry, release) = (Registry::with_referrers(), Signer::new("release"));
    let image = Image::small("referred");
    registry.http().push("store/app", "1.0", &image);
    let sbom =
        Image::new("sbom").layer("{}").subject(&image, "application/spdx+json").build_with("application/spdx+json");
    registry.http().push_by_digest("store/app", &sbom);
    registry.http().push("store/app", &image.digest_tag(".sig"), &release.signature_of(&image));
    let home = Home::new();
    let daemon = home.start();
    home.trust().key("release", &release);
    daemon.client().trust_becomes("settled", 1, 0);
    let reference = format!("{}/store/app:1.0", registry.host());
    home.larder(["pull", "--verified", &reference]).exits(0);
    assert!(home.blob(&sbom.digest()).exists(), "found by the referrers API");
    assert_eq!(daemon.client().state(&reference), State::Verified);
    // And pushed on to one without it, where the fallback tag takes its place.
    let plain = Registry::docker();
    let destination = format!("{}/store/copy:1.0", plain.host());
    home.larder(["push", &reference, &destination]).exits(0);
    let fallback = plain.http().manifest("store/copy", &image.digest_tag("")).is(200);
    assert!(fallback.text().contains(&sbom.digest().to_string()), "{}", fallback.text());
    plain.http().manifest("store/copy", &image.digest_tag(".sig")).is(200);
}

pub(crate) fn a_second_pull_moves_nothing() {
    // A registry that counts: ours. What it counts is what any registry would be asked.
    let (registry, release) = (FakeRegistry::start(), Signer::new("release"));
    let image = Image::small("once");
    registry.put("store/app", "1.0", &image);
    registry.put_signature("store/app", &image.digest(), &release.signature_of(&image));
    let home = Home::new();
    let _daemon = home.start();
    let reference = registry.reference("store/app", "1.0");
    home.larder(["pull", &reference]).exits(0);
    registry.take_seen();
    home.larder(["pull", &reference]).exits(0);
    let seen = registry.take_seen();
    let held: Vec<_> = image.manifests().iter().map(|manifest| manifest.digest().to_string()).collect();
    let moved: Vec<_> = seen
        .iter()
        .filter(|one| {
            one.method == "GET"
                && (one.path.contains("/blobs/")
                    || one.path.contains("/manifests/") && held.iter().any(|digest| one.path.ends_with(digest)))
        })
        .collect();
    assert!(moved.is_empty(), "moved again: {moved:?}");
    // The tag, the referrers API, the list of tags, the signature's tag that it shows.
    assert!(seen.len() <= 4, "asked more than it had to: {seen:?}");
    println!("  a second pull asks {} times and moves nothing", seen.len());
}

pub(crate) fn skopeo_reads_and_writes() {
    let home = Home::new();
    let daemon = home.start();
    let release = Signer::new("release");
    home.trust().key("release", &release);
    daemon.client().trust_becomes("settled", 1, 0);
    let registry = Registry::docker();
    let image = Image::new("read out")
        .layer(harness::image::noise("a", 300_000))
        .layer(harness::image::noise("b", 5_000))
        .build();
    registry.http().push("store/app", "1.0", &image);
    registry.http().push("store/app", &image.digest_tag(".sig"), &release.signature_of(&image));
    home.larder(["pull", "--verified", &format!("{}/store/app:1.0", registry.host())]).exits(0);

    let served = format!("docker://{}/{}/store/app:1.0", daemon.endpoint(), registry.host().replace(':', "_"));
    let out = home.beside("out");
    skopeo_copy(&served, &format!("dir:{}", out.display()));
    let manifest = fs::read(out.join("manifest.json")).expect("what skopeo wrote");
    assert_eq!(larder_core::Digest::of(&manifest), image.digest(), "the digest is unchanged");

    let written = format!("docker://{}/team/app:2.0", daemon.endpoint());
    skopeo_copy(&format!("dir:{}", out.display()), &written);
    let inspected = run("skopeo", ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &written]);
    assert_eq!(inspected.trim(), image.digest().to_string());
    // The signature counts in every repository.
    assert_eq!(daemon.client().state("localhost/team/app:2.0"), State::Verified);

    let stranger: Content = Image::small("nobody signed this");
    daemon.http().push("team/app", "3.0", &stranger);
    let from = format!("docker://{}/team/app:3.0", daemon.endpoint());
    let arguments =
        ["--insecure-policy", "copy", "--src-tls-verify=false", &from, &format!("dir:{}", home.beside("no").display())];
    let (code, _, _) = crate::tools::attempt("skopeo", arguments, &[]);
    assert_ne!(code, 0, "the gate refuses what is not accepted");
}
