//! What Larder signs is verified by cosign 2 and 3, beside what the [matrix](crate::matrix) has of it: SBOMs that cosign attached,
//! whole indexes, and keys that were imported here.

use std::fs;
use std::path::PathBuf;

use harness::{Home, Http};

use crate::tools::{Ran, Registry, Stage, greeting};

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
