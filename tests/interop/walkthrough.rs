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

    // Every step has the same flags, and prints the same but for names.
    let alike = |theirs: &str, ours: &[&str]| {
        let printed = stage.run(theirs).succeeds();
        assert_eq!(as_theirs(&larder(&stage, ours).stdout), printed, "{theirs}");
    };
    let prefix = stage.file("ours").display().to_string();
    alike(
        "cosign generate-key-pair --output-key-prefix theirs",
        &["generate-key-pair", "--output-key-prefix", &prefix],
    );
    let pair = |who: &str| ["key", "pub"].map(|end| stage.file(&format!("{who}.{end}")).display().to_string());
    let ([their_key, their_public], [our_key, our_public]) = (pair("theirs"), pair("ours"));

    let by_digest = |name: &str| name.replace(":1.0", &format!("@{}", image.digest()));
    for words in ["", "-a env=prod -a team=store"] {
        let sign = |key: &str, name: &str| format!("sign --yes --tlog-upload=false --key {key} {words} {name}");
        let (theirs, ours) = (sign(&their_key, &by_digest(&theirs)), sign(&our_key, &by_digest(&ours)));
        alike(&format!("cosign {theirs}"), &ours.split_whitespace().collect::<Vec<_>>());
    }

    for place in ["signature", "attestation", "sbom", "digest"] {
        alike(&format!("cosign triangulate --type {place} {theirs}"), &["triangulate", "--type", place, &ours]);
    }

    for words in ["", "-a env=prod", "-o text", "--output=json"] {
        let verify = |key: &str, name: &str| format!("verify --insecure-ignore-tlog {words} --key {key} {name}");
        let by_cosign = stage.run(&format!("cosign {}", verify(&their_public, &theirs)));
        let by_larder = larder(&stage, &verify(&our_public, &ours).split_whitespace().collect::<Vec<_>>());
        assert_eq!(as_theirs(&checks(&by_larder.stderr)), checks(&by_cosign.stderr), "{words}");
        assert_eq!(as_theirs(&by_larder.stdout), by_cosign.succeeds(), "{words}");
    }
    // Without flags the trust folder decides, and its checks are told in its own words.
    larder(&stage, &["trust", "add", &our_public]);
    let by_cosign = stage.run(&format!("cosign verify --insecure-ignore-tlog --key {their_public} {theirs}"));
    let by_larder = larder(&stage, &["verify", &ours]);
    assert_eq!(as_theirs(&opening(&by_larder.stderr)), opening(&by_cosign.stderr));
    assert_eq!(as_theirs(&by_larder.stdout), by_cosign.succeeds());

    let sbom = stage.file("app.spdx").display().to_string();
    fs::write(&sbom, "SPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\n").expect("a file");
    alike(&format!("cosign attach sbom --sbom {sbom} {theirs}"), &["attach", "sbom", "--sbom", &sbom, &ours]);
    let sign = |key: &str, name: &str| format!("sign --yes --tlog-upload=false --key {key} --attachment sbom {name}");
    let mine = sign(&our_key, &ours);
    alike(&format!("cosign {}", sign(&their_key, &theirs)), &mine.split_whitespace().collect::<Vec<_>>());
    let of_sbom = |public: &str, reference: &str| {
        stage.run(&format!("cosign verify --insecure-ignore-tlog --attachment sbom --key {public} {reference}"))
    };
    let by_cosign = of_sbom(&their_public, &theirs);
    let verify = ["verify", "--insecure-ignore-tlog", "--attachment", "sbom", "--key", &our_public, &ours];
    let by_larder = larder(&stage, &verify);
    assert_eq!(as_theirs(&checks(&by_larder.stderr)), checks(&by_cosign.stderr), "the SBOM's signature");
    let by_cosign = by_cosign.succeeds();
    assert_eq!(as_theirs(&by_larder.stdout), by_cosign, "the SBOM's signature");

    each_accepts_the_others(&stage, &registry, [&theirs, &ours], [&their_public, &our_public]);
    assert_eq!(as_theirs(&of_sbom(&our_public, &ours).succeeds()), by_cosign, "the pushed SBOM's signature");
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

/// Returns what is said of the checks, whole, but for warnings, and for one line that cosign prints whether or not there was
/// any log.
fn checks(stderr: &str) -> String {
    const NEVER_RAN: &str = "  - Existence of the claims in the transparency log was verified offline";
    let lines = stderr.lines().filter(|line| *line != NEVER_RAN && !line.to_lowercase().starts_with("warning: "));
    let lines: Vec<&str> = lines.skip_while(|line| !line.starts_with("Verification for ")).collect();
    assert!(lines.len() > 2, "no check is told: {stderr}");
    lines.join("\n")
}

/// Returns the lines above the list of checks: under the trust folder they are told in Larder's own words.
fn opening(stderr: &str) -> String {
    stderr.lines().skip_while(|line| !line.starts_with("Verification for ")).take(2).collect::<Vec<_>>().join("\n")
}
