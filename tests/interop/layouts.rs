//! Layouts and archives, written by Larder for other tools and by them for Larder: every digest stays, and so do the
//! signatures of both formats, where the tool carries them.

use std::collections::BTreeSet;
use std::fs;

use harness::Content;
use harness::fixtures::{cosign as fixtures, public_key};
use larder_proto::v1::State;
use serde_json::Value;

use crate::tools::{Stage, greeting};

/// The fixtures' repository, as it is here.
const SINGLE: &str = "example.test/pantry/single";
const MULTI: &str = "example.test/pantry/multi";

/// A stage with cosign's fixtures: classic signatures, bundles, an index. What is not signed by `p256` is allowed.
fn furnished() -> (Stage, String) {
    let mut stage = Stage::new();
    stage.set("COSIGN_PASSWORD", "larder");
    stage.home.trust().write("keys/p256.pub", public_key("p256.pub"));
    stage.home.trust().policy_static("all", "**", "pass");
    stage.daemon.client().trust_becomes("settled", 1, 1);
    for (repository, name) in [("single", SINGLE), ("multi", MULTI)] {
        let layout = fixtures().join("layouts").join(repository).display().to_string();
        stage.home.larder(["load", &layout, "--as", name]).exits(0);
    }
    let key = fixtures().join("keys/p256.pub").display().to_string();
    (stage, key)
}

impl Stage {
    fn save(&self, reference: &str, file: &str) -> String {
        let place = self.file(file).display().to_string();
        self.home.larder(["save", reference, "-o", &place]).exits(0);
        place
    }

    /// Loads what a tool wrote, and returns what is attached to it then: the digests, and the digest itself.
    #[track_caller]
    fn load(&self, file: &str, name: &str) -> (String, BTreeSet<String>) {
        let place = self.file(file).display().to_string();
        self.home.larder(["load", &place, "--as", name]).exits(0);
        (self.held(name), self.attached(name))
    }

    #[track_caller]
    fn held(&self, name: &str) -> String {
        self.daemon.client().query(name).unwrap_or_else(|error| panic!("{name}: {}", error.message)).digest
    }

    /// What hangs on an image in its own repository.
    fn attached(&self, name: &str) -> BTreeSet<String> {
        let shown: Value = self.home.larder(["show", name, "--output", "json"]).exits(0).json();
        let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository).to_owned();
        let here = |found: &Value| found["found_at"].to_string().contains(&repository);
        let attached = shown["attached"].as_array().cloned().unwrap_or_default();
        let digest = |one: &Value| one["descriptor"]["digest"].as_str().unwrap_or_default().to_owned();
        attached.iter().filter(|one| here(one)).map(digest).collect()
    }
}

pub(crate) fn cosign_reads_and_writes() {
    let (stage, key) = furnished();
    let (classic, bundled) = (format!("{SINGLE}:1.0.0"), format!("{SINGLE}:1.1.0"));
    stage.save(&classic, "classic");
    stage.save(&bundled, "bundled");
    stage.save(&format!("{MULTI}:3.0.0"), "multi");
    for cosign in ["cosign", "cosign-v3"] {
        let verify = format!("{cosign} verify --insecure-ignore-tlog --key {key} --local-image");
        stage.run(&format!("{verify} classic")).succeeds();
        let attested =
            format!("{cosign} verify-attestation --insecure-ignore-tlog --type custom --key {key} --local-image");
        stage.run(&format!("{attested} classic")).succeeds();
        if cosign == "cosign-v3" {
            stage.run(&format!("{verify} bundled")).succeeds();
        }
        // Into a registry, and what is there is what was saved: an image with its signatures, and a whole index.
        let back = |of: &str| stage.at(&format!("back/{cosign}/{of}:1"));
        stage.run(&format!("{cosign} load --dir classic {}", back("classic"))).succeeds();
        let classic_back = format!("localhost/back/{cosign}/classic:1");
        assert_eq!(stage.held(&classic_back), stage.held(&classic));
        assert_eq!(stage.attached(&classic_back).len(), 2, "the signature and the attestation");
        stage.run(&format!("{cosign} load --dir multi {}", back("multi"))).succeeds();
        assert_eq!(stage.held(&format!("localhost/back/{cosign}/multi:1")), stage.held(&format!("{MULTI}:3.0.0")));

        // The other way round.
        for (reference, file) in [(&classic, "c"), (&bundled, "b")] {
            let (from, dir) = (stage.at(reference), format!("saved-{cosign}-{file}"));
            stage.run(&format!("{cosign} save --dir {dir} {from}")).succeeds();
            let name = format!("localhost/saved/{cosign}/{file}:1");
            let (digest, attached) = stage.load(&dir, &name);
            assert_eq!(digest, stage.held(reference), "{cosign} {reference}");
            let expected = match (cosign, file) {
                (_, "c") => 2,         // it leaves the SBOM behind
                ("cosign-v3", _) => 3, // in no list: they are found by searching
                _ => 0,                // version 2 knows no bundles
            };
            assert_eq!(attached.len(), expected, "{cosign} {reference}");
        }
        assert_eq!(stage.daemon.client().state(&format!("localhost/saved/{cosign}/c:1")), State::Verified);
    }
}

pub(crate) fn skopeo_oras_and_crane() {
    let (stage, _) = furnished();
    let (classic, bundled, multi) = (format!("{SINGLE}:1.0.0"), format!("{SINGLE}:1.1.0"), format!("{MULTI}:3.0.0"));
    for (reference, file) in
        [(&classic, "classic"), (&classic, "classic.tar"), (&bundled, "bundled"), (&multi, "multi")]
    {
        stage.save(reference, file);
    }
    stage.home.larder(["save", &format!("{SINGLE}:2.0.0"), "-o", &stage.file("plain").display().to_string()]).exits(0);

    // skopeo, by the tag; the signatures, by theirs.
    let skopeo = "skopeo copy --quiet --all --dest-tls-verify=false";
    for (from, tag, to) in [
        ("oci:classic", "1.0.0", &classic),
        ("oci-archive:classic.tar", "1.0.0", &classic),
        ("oci:multi", "3.0.0", &multi),
    ] {
        stage.run(&format!("{skopeo} {from}:{tag} docker://{}", stage.at("by/skopeo:1"))).succeeds();
        assert_eq!(stage.held("localhost/by/skopeo:1"), stage.held(to), "{from}");
    }
    let signatures = stage.held(&classic).replace(':', "-") + ".sig";
    stage
        .run(&format!("{skopeo} oci:classic:{signatures} docker://{}", stage.at(&format!("by/skopeo:{signatures}"))))
        .succeeds();
    stage.run(&format!("{skopeo} oci:classic:1.0.0 oci:of-skopeo:7")).succeeds();
    stage.home.larder(["load", &stage.file("of-skopeo").display().to_string(), "--as", "localhost/of/skopeo"]).exits(0);
    assert_eq!(stage.held("localhost/of/skopeo:7"), stage.held(&classic), "it has the tag in the layout");
    stage.run(&format!("{skopeo} oci:multi:3.0.0 oci-archive:of-skopeo.tar:7")).succeeds();
    assert_eq!(stage.load("of-skopeo.tar", "localhost/of/skopeo:8").0, stage.held(&multi));

    // oras, with referrers.
    let oras = "oras copy --recursive --from-oci-layout --to-plain-http";
    stage.run(&format!("{oras} bundled:1.1.0 {}", stage.at("by/oras:1"))).succeeds();
    assert_eq!(stage.held("localhost/by/oras:1"), stage.held(&bundled));
    assert_eq!(stage.attached("localhost/by/oras:1").len(), 3);
    stage
        .run(&format!("oras copy --recursive --from-plain-http --to-oci-layout {} of-oras:9", stage.at(&bundled)))
        .succeeds();
    let (digest, attached) = stage.load("of-oras", "localhost/of/oras:9");
    assert_eq!((digest, attached.len()), (stage.held(&bundled), 3));
    stage
        .run(&format!("oras backup --plain-http --include-referrers --output backup {}", stage.at(&bundled)))
        .succeeds();
    assert_eq!(stage.load("backup", "localhost/of/backup:1.1.0").1.len(), 3);

    // crane reads layouts of one entry, and names nothing unless it is asked to.
    stage.run(&format!("crane push plain {}", stage.at("by/crane:1"))).succeeds();
    assert_eq!(stage.held("localhost/by/crane:1"), stage.held(&format!("{SINGLE}:2.0.0")));
    stage.run(&format!("crane push classic {}", stage.at("by/crane:2"))).fails_with(&["entries"]);
    stage.run(&format!("crane pull --format oci {} of-crane", stage.at(&multi))).succeeds();
    assert_eq!(stage.load("of-crane", "localhost/of/crane:1").0, stage.held(&multi));
    stage.home.larder(["load", &stage.file("of-crane").display().to_string()]).exits(1).says(&["--as"]);
}

pub(crate) fn archives_of_docker_and_podman() {
    let stage = Stage::new();
    let image: Content = greeting("carried by podman");
    stage.daemon.http().push("team/app", "1.0", &image);
    stage.allow("**", "localhost/team/app:1.0");
    let tar = stage.save("localhost/team/app:1.0", "app.tar");
    let (root, run_root) = (stage.file("root"), stage.file("run"));
    let engine = format!("podman --root {} --runroot {} --storage-driver vfs", root.display(), run_root.display());
    let id = || stage.run(&format!("{engine} image inspect --format {{{{.Id}}}} localhost/team/app:1.0")).succeeds();
    let digest =
        || stage.run(&format!("{engine} image inspect --format {{{{.Digest}}}} localhost/team/app:1.0")).succeeds();
    stage.run(&format!("{engine} load --input {tar}")).succeeds();
    assert_eq!(digest().trim(), image.digest().to_string());
    let loaded = id();

    // What podman saves: a layout of its own packing, and docker's old form.
    for (format, file) in [("oci-archive", "oci.tar"), ("oci-dir", "oci"), ("docker-archive", "docker.tar")] {
        stage.run(&format!("{engine} save --format {format} --output {file} localhost/team/app:1.0")).succeeds();
        let (digest, _) = stage.load(file, &format!("localhost/of/podman:{format}"));
        let config: Value =
            stage.home.larder(["show", &format!("localhost/of/podman:{format}"), "--output", "json"]).exits(0).json();
        let config = config["successors"][0]["descriptor"]["digest"].as_str().unwrap_or_default().to_owned();
        assert_eq!(config, format!("sha256:{}", loaded.trim()), "{format}: the image's id stays");
        assert_eq!(stage.held(&format!("localhost/of/podman:{format}")), digest);
    }
    // The names in an archive count where no other is said; a manifest that is made is always the same.
    stage
        .run("skopeo copy --quiet oci-archive:app.tar:1.0 docker-archive:skopeo.tar:example.org/made/app:3")
        .succeeds();
    let place = stage.file("skopeo.tar").display().to_string();
    stage.home.larder(["load", &place]).exits(0).says(&["has no manifest", "example.org/made/app:3"]);
    let made = stage.held("example.org/made/app:3");
    assert_eq!(stage.load("skopeo.tar", "localhost/made/again:1").0, made);
    let packed = stage.run("gzip --keep skopeo.tar").code;
    assert_eq!(packed, 0, "gzip");
    assert_eq!(stage.load("skopeo.tar.gz", "localhost/made/packed:1").0, made);

    // podman finds a signed image in a tar by the list that is there for docker.
    stage.run(&format!("{engine} rmi --all --force")).succeeds();
    let other = greeting("another");
    stage.daemon.http().push("team/other", "1.0", &other);
    let both = stage.file("both.tar").display().to_string();
    stage.home.larder(["save", "localhost/team/app:1.0", "localhost/team/other:1.0", "-o", &both]).exits(0);
    stage.run(&format!("{engine} load --input {both}")).succeeds();
    assert_eq!(id(), loaded);
    stage.run(&format!("{engine} rmi --all --force")).succeeds();
    let _ = fs::remove_dir_all(root);
}
