//! What Larder signs and attests is verified by cosign 2 and 3, for every kind of key, in both formats, through registries
//! with the referrers API and without it: also where cosign does not verify what it made itself.

use std::fs;
use std::path::PathBuf;

use harness::{Home, Http};

use crate::tools::{Ran, Registry, Stage, greeting};

/// Every kind of key that cosign can make: its own key file, and whether cosign 2 and cosign 3 verify what they themselves
/// sign with it without being told a hash.
const KEYS: [(&str, [bool; 2]); 5] = [
    ("p256", [true, true]),
    ("imp-ec-P-384", [false, false]),
    ("imp-ec-P-521", [false, false]),
    ("imp-rsa2048", [true, true]),
    ("imp-ed25519", [false, false]),
];
const CUSTOM: &str = "--type custom --predicate predicate.json";

/// A registry, a daemon that keeps copies of what is in it, and cosign.
struct Cell<'a> {
    stage: &'a Stage,
    home: &'a Home,
    http: Http,
    host: String,
}

impl Cell<'_> {
    /// Puts an image of its own into the registry: `HOST/NAME@DIGEST`.
    fn image(&self, name: &str) -> String {
        let image = greeting(name);
        self.http.push(name, "1", &image);
        format!("{}/{name}@{}", self.host, image.digest())
    }

    #[track_caller]
    fn larder(&self, words: &str) {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.home.invoke(words).env("COSIGN_PASSWORD", "larder").run().exits(0);
    }

    fn verify(&self, cosign: &str, how: &str, key: &str, target: &str) -> Ran {
        self.stage.run(&format!("{cosign} {how} --insecure-ignore-tlog --key {} {target}", file(key, "pub")))
    }
}

fn file(key: &str, ending: &str) -> String {
    let keys: PathBuf = harness::fixtures::cosign().join("keys");
    keys.join(format!("{key}.{ending}")).display().to_string()
}

pub(crate) fn cosign_verifies_every_kind() {
    let mut stage = Stage::new();
    stage.set("COSIGN_PASSWORD", "larder");
    fs::write(stage.file("predicate.json"), "{\"a\": 1}").expect("a file");
    // cosign 2 asks for one, also where nothing in it is needed.
    let root = "{\"mediaType\":\"application/vnd.dev.sigstore.trustedroot+json;version=0.1\"}";
    fs::write(stage.file("empty-root.json"), root).expect("a file");
    stage.run("cosign-v3 signing-config create --out config.json").succeeds();
    let mut cells = 0;
    for registry in [Registry::with_referrers(), Registry::docker()] {
        let home = Home::new();
        let _daemon = home.start();
        let cell = Cell { stage: &stage, home: &home, http: registry.http(), host: registry.host().to_owned() };
        for (key, _) in KEYS {
            cells += legacy(&cell, key) + bundle(&cell, key);
        }
    }
    println!("  {cells} verifications by cosign of what Larder wrote");

    // What cosign makes of its own: no registry and no format changes it.
    let registry = Registry::docker();
    let home = Home::new();
    let cell = Cell { stage: &stage, home: &home, http: registry.http(), host: registry.host().to_owned() };
    for (key, own) in KEYS {
        let by_own = cosigns_own(&cell, key);
        assert_eq!(
            by_own, own,
            "{key}: what cosign 2 and 3 verify of their own has changed: docs/signing.md says so too"
        );
    }
}

/// Signs and attests under cosign's tags; both versions verify.
fn legacy(cell: &Cell<'_>, key: &str) -> usize {
    let target = cell.image(&format!("legacy/{}", key.to_lowercase()));
    cell.larder(&format!("pull {target}"));
    let with = format!("--key {} --format legacy", file(key, "key"));
    cell.larder(&format!("sign {with} -a env=prod {target}"));
    let predicate = cell.stage.file("predicate.json").display().to_string();
    cell.larder(&format!("attest {with} --type custom --predicate {predicate} --push {target}"));
    for cosign in ["cosign", "cosign-v3"] {
        let said = cell.verify(cosign, "verify -a env=prod", key, &target).succeeds();
        assert!(said.contains("\"env\":\"prod\""), "{cosign}, {key}: {said}");
        cell.verify(cosign, "verify -a env=test", key, &target).fails_with(&[]);
        cell.verify(cosign, "verify-attestation --type custom", key, &target).succeeds();
        cell.verify(cosign, "verify-attestation --type spdxjson", key, &target).fails_with(&[]);
        cell.verify(cosign, "verify", "other", &target).fails_with(&[]);
    }
    4
}

/// Signs and attests in bundles; cosign 3 verifies, and cosign 2 where it is told to look for them.
fn bundle(cell: &Cell<'_>, key: &str) -> usize {
    let target = cell.image(&format!("bundle/{}", key.to_lowercase()));
    cell.larder(&format!("pull {target}"));
    let with = format!("--key {} --format bundle", file(key, "key"));
    let predicate = cell.stage.file("predicate.json").display().to_string();
    cell.larder(&format!("sign {with} -a env=prod {target}"));
    cell.larder(&format!("attest {with} --type custom --predicate {predicate} --push {target}"));
    let said = cell.verify("cosign-v3", "verify -a env=prod", key, &target).succeeds();
    assert!(said.contains(target.rsplit('@').next().expect("a digest")), "{key}: {said}");
    cell.verify("cosign-v3", "verify -a env=test", key, &target).fails_with(&[]);
    cell.verify("cosign-v3", "verify-attestation --type custom", key, &target).succeeds();
    cell.verify("cosign-v3", "verify-attestation --type spdxjson", key, &target).fails_with(&[]);
    cell.verify("cosign-v3", "verify", "other", &target).fails_with(&[]);
    cell.verify("cosign", "verify", key, &target).fails_with(&["no signatures found"]);
    cell.verify("cosign", "verify --new-bundle-format --trusted-root empty-root.json", key, &target).succeeds();
    3
}

/// Signs and attests with cosign itself, each version in the format that is its own; says which verify both again.
fn cosigns_own(cell: &Cell<'_>, key: &str) -> [bool; 2] {
    let without_log = ["--tlog-upload=false", "--signing-config config.json"];
    [("cosign", 0), ("cosign-v3", 1)].map(|(cosign, at)| {
        let target = cell.image(&format!("own/{cosign}/{}", key.to_lowercase()));
        let with = format!("--yes {} --key {} {target}", without_log[at], file(key, "key"));
        cell.stage.run(&format!("{cosign} sign {with}")).succeeds();
        cell.stage.run(&format!("{cosign} attest {CUSTOM} {with}")).succeeds();
        let verified = cell.verify(cosign, "verify", key, &target).code == 0;
        let attested = cell.verify(cosign, "verify-attestation --type custom", key, &target).code == 0;
        assert_eq!(verified, attested, "{cosign}, {key}");
        verified
    })
}

/// Everything else that is written for cosign: SBOMs signed in two steps, whole indexes, keys that were imported here.
pub(crate) fn cosign_verifies_sboms_indexes_and_imported_keys() {
    let mut stage = Stage::new();
    stage.set("COSIGN_PASSWORD", "larder");
    let home = Home::new();
    let _daemon = home.start();
    let registry = Registry::docker();
    let cell = Cell { stage: &stage, home: &home, http: registry.http(), host: registry.host().to_owned() };

    let target = cell.image("with/sbom");
    fs::write(stage.file("sbom.txt"), "SPDXVersion: SPDX-2.3\n").expect("a file");
    stage.run(&format!("cosign attach sbom --sbom sbom.txt {target}")).succeeds();
    cell.larder(&format!("pull {target}"));
    cell.larder(&format!("sign --key {} --attachment sbom --push {target}", file("p256", "key")));
    for cosign in ["cosign", "cosign-v3"] {
        cell.verify(cosign, "verify --attachment sbom", "p256", &target).succeeds();
        cell.verify(cosign, "verify", "p256", &target).fails_with(&["no signatures found"]);
    }

    let (one, two) = (greeting("one of two"), greeting("two of two"));
    let index = harness::Index::new().child(&one, "linux", "amd64").child(&two, "linux", "arm64").build();
    registry.http().push("an/index", "1", &index);
    let reference = format!("{}/an/index:1", registry.host());
    cell.larder(&format!("pull --platform all {reference}"));
    for pem in ["rsa4096", "sec1", "ed25519"] {
        let prefix = home.beside(pem).display().to_string();
        cell.larder(&format!("import-key-pair --key {} --output-key-prefix {prefix}", file(pem, "pem")));
        cell.larder(&format!("sign --key {prefix}.key --recursive --push {reference}"));
        for content in [&index, &one, &two] {
            let target = format!("{}/an/index@{}", registry.host(), content.digest());
            cell.verify("cosign", "verify", &format!("imp-{pem}"), &target).succeeds();
        }
        // cosign signs with what was imported here.
        let target = cell.image(&format!("imported/{pem}"));
        stage.run(&format!("cosign sign --yes --tlog-upload=false --key {prefix}.key {target}")).succeeds();
    }
}
