//! SBOMs that cosign attached are read here, and the other way round; what is attached is printed alike.

use std::fs;

use harness::Home;
use harness::fixtures::{cosign, public_key};
use serde_json::Value;

use crate::tools::{Registry, Stage, greeting};

const COSIGN: [&str; 2] = ["cosign", "cosign-v3"];
/// Words behind `attach sbom`, the file, and the media type that comes of them.
const SBOMS: [(&str, &str, &str); 8] = [
    ("", "spdx.txt", "text/spdx"),
    ("", "spdx.json", "text/spdx+json"),
    ("--type spdx --input-format json", "spdx.txt", "text/spdx+json"),
    ("--type cyclonedx", "cyclonedx.json", "application/vnd.cyclonedx+json"),
    ("--type cyclonedx --input-format xml", "spdx.txt", "application/vnd.cyclonedx+xml"),
    ("--type syft", "custom.json", "application/vnd.syft+json"),
    ("--type spdx --input-format text", "spdx.json", "text/spdx+json"),
    ("--type cyclonedx --input-format xml", "cyclonedx.json", "application/vnd.cyclonedx+json"),
];

/// Through a registry without the referrers API, and one with it.
fn registries() -> [(&'static str, Registry); 2] {
    [("docker-registry", Registry::docker()), ("referrers", Registry::with_referrers())]
}

/// {cosign 2, cosign 3} × {cosign → larder, larder → cosign} × {no referrers API, referrers API} × every media type.
pub(crate) fn sboms_to_and_fro() {
    let stage = Stage::new();
    let mut cells = 0;
    for (kind, registry) in registries() {
        for tool in COSIGN {
            for (number, (words, file, media_type)) in SBOMS.into_iter().enumerate() {
                let cell = format!("{tool} {kind} {words} {file}");
                let path = cosign().join("sbom").join(file);
                let (path, sbom) = (path.display().to_string(), fs::read_to_string(&path).expect(file));
                // The same image twice: what both attach must be the same to the byte.
                let image = greeting(&cell);
                let names = ["theirs", "ours"].map(|who| format!("{who}/{tool}-{number}"));
                let [theirs, ours] = names.each_ref().map(|name| format!("{}/{name}:1", registry.host()));
                names.iter().for_each(|name| registry.http().push(name, "1", &image));
                stage.run(&format!("{tool} attach sbom --sbom {path} {words} {theirs}")).succeeds();
                stage.home.larder(["pull", &theirs]).exits(0);
                let listed = stage.home.larder(["sbom", "ls", &theirs, "--output", "json"]).exits(0).json();
                assert_eq!(listed["sboms"][0]["media_type"], media_type, "{cell}");
                assert_eq!(stage.home.larder(["sbom", "show", &theirs]).exits(0).stdout, sbom, "{cell}");
                stage.home.larder(["pull", &ours]).exits(0);
                let attach = ["attach", "sbom", "--sbom", &path].into_iter().chain(words.split_whitespace());
                stage.home.larder(attach.chain([ours.as_str()])).exits(0);
                stage.home.larder(["push", &ours]).exits(0);
                assert_eq!(stage.run(&format!("{tool} download sbom {ours}")).succeeds(), sbom, "{cell}");
                let tag = image.digest_tag(".sbom");
                let manifest = |name: &String| registry.http().manifest(name, &tag).is(200).body;
                assert_eq!(manifest(&names[0]), manifest(&names[1]), "{cell}");
                cells += 2;
            }
        }
    }
    println!("  {cells} cells");
}

/// Signs and attests an image with each cosign, and compares what `triangulate` and `download` print.
pub(crate) fn places_and_downloads() {
    let mut stage = Stage::new();
    stage.set("COSIGN_PASSWORD", "larder");
    stage.run("cosign-v3 signing-config create --out config.json").succeeds();
    stage.home.trust().write("keys/p256.pub", public_key("p256.pub"));
    stage.daemon.client().trust_becomes("settled", 1, 0);
    let file = |name: &str| cosign().join("sbom").join(name).display().to_string();
    let key = cosign().join("keys/p256.key").display().to_string();
    for (kind, registry) in registries() {
        for tool in COSIGN {
            let image = greeting(&format!("{tool} {kind}"));
            let name = format!("store/{tool}");
            registry.http().push(&name, "1", &image);
            let reference = format!("{}/{name}:1", registry.host());
            let target = format!("{}/{name}@{}", registry.host(), image.digest());
            let how = match tool {
                "cosign" => format!("--yes --tlog-upload=false --key {key} {target}"),
                _ => format!("--yes --signing-config config.json --key {key} {target}"),
            };
            stage.run(&format!("{tool} sign -a env=prod {how}")).succeeds();
            let text = file("spdx.txt");
            stage.run(&format!("{tool} attest --type spdx --predicate {text} {how}")).succeeds();
            stage
                .run(&format!("{tool} attest --type cyclonedx --predicate {} {how}", file("cyclonedx.json")))
                .succeeds();
            stage.home.larder(["pull", &reference]).exits(0);
            for place in ["signature", "attestation", "sbom", "digest"] {
                let theirs = stage.run(&format!("{tool} triangulate --type {place} {reference}")).succeeds();
                let ours = stage.home.larder(["triangulate", "--type", place, &reference]).exits(0).stdout;
                assert_eq!(ours, theirs, "{tool} {kind} {place}");
            }
            for words in ["signature", "attestation", "attestation --predicate-type cyclonedx"] {
                let theirs = stage.run(&format!("{tool} download {words} {reference}")).succeeds();
                let words = ["download"].into_iter().chain(words.split_whitespace()).chain([reference.as_str()]);
                let ours = stage.home.larder(words).exits(0).stdout;
                assert_eq!(sorted(&ours), sorted(&theirs), "{tool} {kind}");
            }
            sboms_are_attested(&stage.home, &reference, &text, &format!("{tool} {kind}"));
        }
    }
}

/// cosign 3 prints in the order in which answers came.
fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

/// Both SBOMs count, each by the key that attested it; text comes out as it went in.
#[track_caller]
fn sboms_are_attested(home: &Home, reference: &str, text: &str, cell: &str) {
    let listed = home.larder(["sbom", "ls", reference, "--output", "json"]).exits(0).json();
    let sboms = listed["sboms"].as_array().cloned().unwrap_or_default();
    assert_eq!(sboms.len(), 2, "{cell}: {listed}");
    let mut shown = Vec::new();
    for sbom in &sboms {
        assert_eq!((&sbom["form"], &sbom["signers"][0]["key"]), (&"attestation".into(), &"p256".into()), "{cell}");
        let digest = sbom["digest"].as_str().expect("a digest");
        shown.push(home.larder(["sbom", "show", reference, "--digest", digest]).exits(0).stdout);
    }
    let text = fs::read_to_string(text).expect("the text");
    assert!(shown.contains(&text), "{cell}: the text");
    let json = fs::read(cosign().join("sbom/cyclonedx.json")).expect("the JSON");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    assert!(
        shown.iter().any(|one| serde_json::from_str::<Value>(one).is_ok_and(|one| one == json)),
        "{cell}: the JSON"
    );
}
