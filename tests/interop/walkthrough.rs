//! cosign's own walk-through, step by step, with cosign on one copy of an image and Larder on the other.

use std::fs;

use harness::Output;

use crate::tools::{Registry, Stage, greeting};

/// Generate a key pair, sign, triangulate, verify, attach an SBOM: what is printed is equal but for names, and each tool
/// accepts what the other made.
///
/// cosign 2 is the one whose walk-through is classic: version 3 writes bundles.
pub(crate) fn the_classic_one() {
    let mut stage = Stage::new();
    stage.set("COSIGN_PASSWORD", "larder");
    let registry = Registry::docker();
    let image = greeting("walk-through");
    let [theirs, ours] = ["theirs", "ours"].map(|who| {
        registry.http().push(&format!("{who}/app"), "1.0", &image);
        format!("{}/{who}/app:1.0", registry.host())
    });
    let as_theirs = |printed: &str| printed.replace("/ours/app", "/theirs/app");
    stage.home.larder(["pull", &ours]).exits(0);

    stage.run("cosign generate-key-pair --output-key-prefix theirs").succeeds();
    let prefix = stage.file("ours").display().to_string();
    larder(&stage, &["generate-key-pair", "--output-key-prefix", &prefix]);
    let pair = |who: &str| ["key", "pub"].map(|end| stage.file(&format!("{who}.{end}")).display().to_string());
    let ([their_key, their_public], [our_key, our_public]) = (pair("theirs"), pair("ours"));

    let by_digest = theirs.replace(":1.0", &format!("@{}", image.digest()));
    for words in ["", "-a env=prod -a team=store"] {
        stage.run(&format!("cosign sign --yes --tlog-upload=false --key {their_key} {words} {by_digest}")).succeeds();
        let sign = ["sign", "--key", &our_key].into_iter().chain(words.split_whitespace()).chain([ours.as_str()]);
        larder(&stage, &sign.collect::<Vec<_>>());
    }

    for place in ["signature", "attestation", "sbom", "digest"] {
        let printed = stage.run(&format!("cosign triangulate --type {place} {theirs}")).succeeds();
        let mine = larder(&stage, &["triangulate", "--type", place, &ours]).stdout;
        assert_eq!(as_theirs(&mine), printed, "triangulate --type {place}");
    }

    let by_cosign = stage.run(&format!("cosign verify --insecure-ignore-tlog --key {their_public} {theirs}"));
    larder(&stage, &["trust", "add", &our_public]);
    for by_key in [&["verify", "--insecure-ignore-tlog", "--key", &our_public, &ours][..], &["verify", &ours]] {
        let by_larder = larder(&stage, by_key);
        assert_eq!(as_theirs(&opening(&by_larder.stderr)), opening(&by_cosign.stderr));
        assert_eq!(as_theirs(&by_larder.stdout), by_cosign.stdout);
    }
    by_cosign.succeeds();

    let sbom = stage.file("app.spdx").display().to_string();
    fs::write(&sbom, "SPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\n").expect("a file");
    stage.run(&format!("cosign attach sbom --sbom {sbom} {theirs}")).succeeds();
    larder(&stage, &["attach", "sbom", "--sbom", &sbom, &ours]);
    let sign = format!("cosign sign --yes --tlog-upload=false --key {their_key} --attachment sbom {theirs}");
    stage.run(&sign).succeeds();
    larder(&stage, &["sign", "--key", &our_key, "--attachment", "sbom", &ours]);
    let of_sbom = |public: &str, reference: &str| {
        stage
            .run(&format!("cosign verify --insecure-ignore-tlog --attachment sbom --key {public} {reference}"))
            .succeeds()
    };
    let by_cosign = of_sbom(&their_public, &theirs);
    let verify = ["verify", "--attachment", "sbom", "--key", &our_public, &ours];
    assert_eq!(as_theirs(&larder(&stage, &verify).stdout), by_cosign, "the SBOM's signature");

    each_accepts_the_others(&stage, &registry, [&theirs, &ours], [&their_public, &our_public]);
    assert_eq!(as_theirs(&of_sbom(&our_public, &ours)), by_cosign, "the pushed SBOM's signature");
    let tag = image.digest_tag(".sbom");
    let attached = ["theirs/app", "ours/app"].map(|name| registry.http().manifest(name, &tag).is(200).body);
    assert_eq!(attached[0], attached[1], "the attached SBOMs");
}

/// Carries what Larder made to the registry, and lets each tool verify the other's copy; the wrong key is refused by both.
fn each_accepts_the_others(
    stage: &Stage,
    registry: &Registry,
    [theirs, ours]: [&str; 2],
    [their_public, our_public]: [&str; 2],
) {
    stage.home.larder(["push", ours]).exits(0);
    let verify = |public: &str| stage.run(&format!("cosign verify --insecure-ignore-tlog --key {public} {ours}"));
    let by_cosign = verify(our_public).succeeds();
    assert_eq!(larder(stage, &["verify", ours]).stdout, by_cosign, "one printing of one image");
    verify(their_public).fails_with(&["no matching signatures"]);
    // The other copy counts for nothing until its key does: signatures are found by the digest that they name.
    stage.home.larder(["trust", "remove", "ours"]).exits(0);
    stage.home.larder(["verify", theirs]).exits(12);
    stage.home.larder(["trust", "add", their_public]).exits(0);
    stage.home.larder(["pull", theirs]).exits(0);
    let by_cosign = stage.run(&format!("cosign verify --insecure-ignore-tlog --key {their_public} {theirs}"));
    assert_eq!(larder(stage, &["verify", theirs]).stdout, by_cosign.succeeds());
    let absent = format!("{}/theirs/app:none", registry.host());
    stage.home.larder(["verify", &absent]).exits(11);
}

/// Runs `larder` with the password of the keys; it succeeds.
#[track_caller]
fn larder(stage: &Stage, words: &[&str]) -> Output {
    stage.home.invoke(words).env("COSIGN_PASSWORD", "larder").run().exits(0)
}

/// Returns the lines above the list of checks: which checks ran, each tool says in its own words.
fn opening(stderr: &str) -> String {
    stderr.lines().skip_while(|line| !line.starts_with("Verification for ")).take(2).collect::<Vec<_>>().join("\n")
}
