//! What every verb says, word by word: `tests/fixtures/cli/<verb>.txt`.
//!
//! Each transcript has the verb's help, what it says when all is well, in words and in JSON, wrong usage, and the errors
//! that people meet most. `UPDATE_SNAPSHOTS=1` writes them anew; look at the difference before it is committed.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};

use harness::image::{host_architecture, noise};
use harness::registry::Auth;
use harness::transcript::file;
use harness::{Home, Image, Index, Output, Signer};
use larder_core::Digest;
use rustix::process::{Pid, Signal, kill_process};

use crate::session::Session;
use crate::world::{APP, World};

#[test]
fn larder() {
    let mut session = Session::start();
    session.larder(&[], 2);
    session.larder(&["--help"], 0);
    session.larder(&["--version"], 0);
    session.larder(&["pul", "alpine"], 2);
    session.larder(&["--quiet", "--verbose", "ls"], 2);
    session.matches("larder");
}

#[test]
fn pull() {
    let mut session = Session::start();
    session.world.upstream("1.0", &[&Signer::new("release")]);
    session.world.upstream("1.1", &[]);
    let (signed, plain) = (session.reference("1.0"), session.reference("1.1"));
    session.usage(&["pull"], &[]);
    session.larder(&["pull", "--verified", &plain], 3);
    session.larder(&["pull", &signed], 0);
    session.larder(&["pull", &signed], 0);
    session.larder(&["pull", &plain, "--output", "json"], 0);
    session.larder(&["--quiet", "pull", &plain], 0);
    session.larder(&["pull", &session.reference("none")], 1);
    session.larder(&["pull", "localhost/team/app:dev"], 1);
    session.larder(&["pull", "--platform", "linux", &signed], 1);
    session.larder(&["pull", "https://registry.example.org/app"], 1);
    session.larder(&["pull", "registry.example.org/App"], 1);
    session.larder(&["pull", "registry.example.org/app@sha256:4bcff63911fc", "--output", "json"], 1);
    session.matches("pull");
}

#[test]
fn push() {
    let mut session = Session::furnished();
    let (signed, mirror) = (session.reference("1.0"), session.world.registry.reference("mirror/app", "1.0"));
    session.usage(&["push"], &[]);
    session.larder(&["push", &signed, &mirror], 0);
    session.larder(&["push", &signed, &mirror, "--output", "json"], 0);
    session.larder(&["push", &session.reference("none")], 1);
    session.larder(&["push", &signed, "localhost/team/app:dev"], 1);
    session.matches("push");
}

#[test]
fn save() {
    let mut session = Session::furnished();
    let (signed, plain) = (session.reference("1.0"), session.reference("1.1"));
    session.usage(&["save"], &[]);
    session.larder(&["save", &signed, "--output", "app.tar"], 0);
    session.larder(&["save", &signed, "-o", "layout"], 0);
    session.larder(&["save", &signed, "--dir", "layout", "--output", "json"], 0);
    session.larder(&["save", &plain, "-o", "layout"], 3);
    session.larder(&["save", &signed], 2);
    session.larder(&["save", &signed, "-o", "one", "--dir", "two"], 2);
    session.larder(&["save", &signed, "-o", "app.tar.gz"], 2);
    session.larder(&["save", &signed, "-o", "."], 1);
    session.larder(&["save", &session.reference("none"), "-o", "x.tar"], 1);
    session.matches("save");
}

#[test]
fn load() {
    let mut session = Session::furnished();
    let signed = session.reference("1.0");
    session.world.home.larder(["save", &signed, "-o", "layout"]).exits(0);
    session.world.home.write_beside("note.txt", "no tar at all");
    session.usage(&["load"], &[]);
    session.larder(&["load", "layout"], 0);
    session.larder(&["load", "--dry-run", "layout", "--as", "localhost/team/app"], 0);
    session.larder(&["load", "layout", "--as", "localhost/team/app"], 0);
    session.larder(&["--quiet", "load", "layout"], 0);
    session.larder(&["load", "layout", "--as", "localhost/team/app:2", "--output", "json"], 0);
    session.larder(&["load", "layout", "--ref", "2.0"], 1);
    session.larder(&["load", "none.tar"], 1);
    session.larder(&["load", "note.txt"], 1);
    session.larder(&["load", "layout", "--as", "Team/App"], 1);
    session.matches("load");
}

#[test]
fn ls() {
    let mut session = Session::start();
    session.usage(&["ls"], &["a", "b"]);
    session.larder(&["ls"], 0);
    session.world.upstream("1.0", &[]);
    session.world.upstream("1.1", &[]);
    session.world.pull("1.0");
    session.larder(&["ls"], 0);
    session.larder(&["ls", "quay.io/**"], 0);
    session.larder(&["ls", "--output", "json"], 0);
    let repository = session.reference("1.0").trim_end_matches(":1.0").to_owned();
    session.larder(&["ls", "--remote", &repository], 0);
    session.larder(&["ls", "--remote", &repository, "--output", "json"], 0);
    session.larder(&["ls", "--remote", "localhost/team/app"], 1);
    session.larder(&["ls", "[x"], 1);
    session.matches("ls");
}

/// Pulls an index of which one image is left out, with an SBOM on the other.
fn with_an_index() -> (Session, String) {
    let session = Session::furnished();
    let image =
        |name: &str, architecture: &str| Image::new(name).architecture(architecture).layer(noise(name, 2_000)).build();
    let (own, other) = (image("own", host_architecture()), image("other", "s390x"));
    let index = Index::new().child(&own, "linux", host_architecture()).child(&other, "linux", "s390x").build();
    session.world.registry.put("store/multi", "1", &index);
    let reference = session.world.registry.reference("store/multi", "1");
    session.world.home.larder(["pull", &reference]).exits(0);
    let sbom =
        Image::new("sbom").layer("{}").subject(&own, "application/spdx+json").build_with("application/spdx+json");
    session.world.daemon.http().push_by_digest(&session.world.served_as("store/multi"), &sbom);
    (session, reference)
}

#[test]
fn show() {
    let (mut session, index) = with_an_index();
    session.usage(&["show"], &[]);
    session.larder(&["show", &session.reference("1.0")], 0);
    session.larder(&["show", &index], 0);
    session.larder(&["show", &session.reference("1.0"), "--output", "json"], 0);
    session.larder(&["show", "alpine"], 1);
    session.matches("show");
}

#[test]
fn tree() {
    let (mut session, index) = with_an_index();
    session.usage(&["tree"], &[]);
    session.larder(&["tree", &session.reference("1.0")], 0);
    session.larder(&["tree", &index], 0);
    session.larder(&["tree", &session.reference("1.0"), "--output", "json"], 0);
    session.larder(&["tree", "alpine"], 1);
    session.matches("tree");
}

#[test]
fn inspect() {
    let (mut session, index) = with_an_index();
    session.usage(&["inspect"], &["--raw", "--config", "x"]);
    session.larder(&["inspect", &session.reference("1.0")], 0);
    session.larder(&["inspect", &index, "--output", "json"], 0);
    session.larder(&["inspect", "--raw", &index], 0);
    session.larder(&["inspect", "--config", &index], 0);
    session.larder(&["inspect", "--platform", "linux/s390x", &index], 1);
    session.larder(&["inspect", "alpine"], 1);
    session.matches("inspect");
}

#[test]
fn cat() {
    let mut session = Session::furnished();
    let (signed, plain) = (session.reference("1.0"), session.reference("1.1"));
    session.usage(&["cat"], &[]);
    session.larder(&["cat", &signed], 0);
    session.larder(&["cat", &signed, "--output", "json"], 0);
    let config = Digest::of(&Image::small("1.0").blobs()[0]).to_string();
    session.larder(&["cat", &signed, "--blob", &config], 0);
    let unlisted = Digest::of(b"nothing lists this").to_string();
    session.larder(&["cat", &signed, "--blob", &unlisted], 1);
    let layer = Image::small("1.1").top_layer().to_string();
    session.larder(&["cat", &plain, "--blob", &layer], 1);
    session.larder(&["cat", &session.reference("none")], 1);
    session.matches("cat");
}

/// A world whose registry wants a password, and whose daemon knows no session and no home but the test's.
fn with_a_password() -> Session {
    let home = Home::new();
    let (folder, run) = (home.beside("user"), home.beside("run"));
    fs::create_dir_all(&run).expect("a folder");
    let world = World::launched(home, |launch| {
        launch.env("HOME", folder.to_str().expect("UTF-8")).env("XDG_RUNTIME_DIR", run.to_str().expect("UTF-8"))
    });
    world.registry.require(Auth::Basic("someone".to_owned(), "right".to_owned()));
    Session::in_world(world)
}

#[test]
fn login() {
    let mut session = with_a_password();
    let host = session.world.registry.host();
    session.usage(&["login"], &["a", "b"]);
    session.larder(&["login", &host, "--username", "someone", "--password", "wrong"], 1);
    session.larder(&["login", &host, "--username", "someone", "--password", "right"], 0);
    session.larder(&["login", &host, "--get-login"], 0);
    session.larder(&["login", &host, "--username", "someone", "--password", "right", "--output", "json"], 0);
    session.larder(&["login", "no host", "--username", "someone", "--password", "right"], 1);
    session.matches("login");
}

#[test]
fn logout() {
    let mut session = with_a_password();
    let host = session.world.registry.host();
    session.usage(&["logout"], &["a", "b"]);
    session.world.home.larder(["login", &host, "--username", "someone", "--password", "right"]).exits(0);
    session.larder(&["logout", &host], 0);
    session.larder(&["logout", &host], 0);
    session.world.home.larder(["login", &host, "--username", "someone", "--password", "right"]).exits(0);
    session.larder(&["logout", "--all", "--output", "json"], 0);
    session.matches("logout");
}

#[test]
fn serve() {
    let mut session = Session::start();
    session.usage(&["serve"], &["print-config", "rkt"]);
    session.larder(&["serve", "print-config", "--help"], 0);
    for client in ["podman", "docker", "containerd", "skopeo"] {
        session.larder(&["serve", "print-config", client], 0);
    }
    session.larder(&["serve", "print-config", "podman", "docker.io", "--output", "json"], 0);
    session.larder(&["serve", "print-config", "podman", "not a host"], 2);
    session.matches("serve");
}

#[test]
fn tag() {
    let mut session = Session::furnished();
    let (signed, plain) = (session.reference("1.0"), session.reference("1.1"));
    session.usage(&["tag"], &["alpine"]);
    session.larder(&["tag", &signed, "localhost/team/app:dev"], 0);
    session.larder(&["tag", &signed, "localhost/team/app:dev"], 0);
    session.larder(&["tag", &plain, "localhost/team/app:dev"], 0);
    session.larder(&["tag", &plain, "localhost/team/app", "--output", "json"], 0);
    session.larder(&["tag", &signed, &session.reference("mine")], 1);
    session.larder(&["tag", "alpine", "localhost/team/app:dev"], 1);
    session.larder(&["tag", &signed, "localhost/team/app:de v"], 1);
    session.larder(&["tag", &signed, "localhost/Team/app"], 1);
    session.matches("tag");
}

#[test]
fn rm() {
    let mut session = Session::furnished();
    let (signed, plain) = (session.reference("1.0"), session.reference("1.1"));
    session.usage(&["rm"], &[]);
    session.larder(&["rm", "--dry-run", &signed], 0);
    session.larder(&["rm", &signed, &session.reference("none")], 1);
    session.larder(&["rm", &signed], 0);
    session.larder(&["rm", &plain, "--output", "json"], 0);
    session.larder(&["rm", &signed], 1);
    let digest = Image::small("1.0").digest();
    session.larder(&["rm", &session.world.registry.at(APP, &digest)], 1);
    session.matches("rm");
}

#[test]
fn status() {
    let mut session = Session::furnished();
    session.usage(&["status"], &["--not-accepted", "x"]);
    session.larder(&["status"], 3);
    session.larder(&["status", &session.reference("1.0")], 0);
    session.larder(&["status", &session.reference("1.1")], 3);
    session.larder(&["status", &session.reference("1.1"), "--output", "json"], 3);
    session.larder(&["status", "--output", "json"], 3);
    session.larder(&["status", "alpine"], 1);
    session.larder(&["status", "alpine", "--output", "json"], 1);
    session.matches("status");
}

#[test]
fn explain() {
    let mut session = Session::furnished();
    session.usage(&["explain"], &[]);
    session.larder(&["explain", &session.reference("1.0")], 0);
    session.larder(&["explain", &session.reference("1.1")], 0);
    session.larder(&["explain", &session.reference("1.1"), "--output", "json"], 0);
    session.larder(&["explain", "alpine"], 1);
    session.matches("explain");
}

#[test]
fn verify() {
    let mut session = Session::furnished();
    session.usage(&["verify"], &[]);
    session.larder(&["verify", &session.reference("1.0")], 0);
    session.larder(&["verify", &session.reference("1.0"), "--output", "json"], 0);
    session.larder(&["verify", &session.reference("1.1")], 10);
    session.larder(&["verify", &session.reference("none")], 11);
    session.world.upstream("2.0", &[&Signer::new("stranger")]);
    session.larder(&["verify", &session.reference("2.0")], 12);
    session.larder(&["verify", "-a", "env=prod", &session.reference("1.0")], 1);
    session.larder(&["verify", "--key", "/nowhere.pub", &session.reference("1.0")], 1);
    session.matches("verify");
}

#[test]
fn verify_attestation() {
    let mut session = Session::start();
    let keys = harness::fixtures::cosign().join("keys");
    for name in ["p256.pub", "other.pub"] {
        session.world.home.write_beside(name, fs::read(keys.join(name)).expect("a key"));
    }
    harness::fixtures::Layout::open("single").load_into(&session.world.registry, "single");
    let attested = session.world.registry.reference("single", "1.1.0");
    let unsigned = session.world.registry.reference("single", "2.0.0");
    session.usage(&["verify-attestation"], &["--no-such-flag"]);
    let output = session.world.home.larder(["verify-attestation", "--key", "p256.pub", &attested]).exits(0);
    let sbom = ["verify-attestation", "--key", "p256.pub", "--type", "cyclonedx", &attested, "--output", "json"];
    // An SBOM is long, and so is its line.
    let mut long = session.world.home.larder(sbom);
    long.stdout = format!("{}…\n", long.stdout.chars().take(60).collect::<String>());
    session.note(&["verify-attestation", "--key", "p256.pub", &attested], output, 0);
    session.note(&sbom, long, 0);
    session.larder(&["verify-attestation", "--key", "other.pub", &attested], 12);
    session.larder(&["verify-attestation", "--key", "p256.pub", "--type", "vuln", &attested], 12);
    session.larder(&["verify-attestation", "--key", "p256.pub", &unsigned], 10);
    session.larder(&["verify-attestation", &attested], 1);
    session.larder(&["verify-attestation", "--key", "none.pub", &attested], 1);
    session.matches("verify-attestation");
}

/// Whom these fixtures' signer is, and whom to trust for it.
const ALICE: [&str; 6] = [
    "--trusted-root",
    "roots/good.json",
    "--certificate-identity",
    "alice@example.com",
    "--certificate-oidc-issuer",
    "http://127.0.0.1:8400",
];

#[test]
fn verify_blob() {
    let mut session = Session::start();
    session.keyless();
    session.usage(&["verify-blob"], &[]);
    let bundle = ["verify-blob", "--bundle", "bundles/blob-rekor1_tsa.json"];
    session.larder(&[&bundle[..], &ALICE, &["blobs/hello.txt"]].concat(), 0);
    session.larder(&[&bundle[..], &ALICE, &["--output", "json", "blobs/hello.txt"]].concat(), 0);
    session.larder(&[&bundle[..], &ALICE, &["blobs/other.txt"]].concat(), 1);
    session.larder(&[&bundle[..], &ALICE, &["--insecure-ignore-sct", "blobs/hello.txt"]].concat(), 0);
    session.larder(
        &[&bundle[..], &["--key", "keys/rekor1.pub", "--trusted-root", "roots/good.json", "blobs/hello.txt"]].concat(),
        1,
    );
    let attestation = ["verify-blob", "--bundle", "bundles/attest-rekor1_tsa.json"];
    session.larder(&[&attestation[..], &ALICE, &["blobs/hello.txt"]].concat(), 1);
    let broken = ["verify-blob", "--bundle", "bundles/blob-rekor1_tsa+unknown-field.json"];
    session.larder(&[&broken[..], &ALICE, &["blobs/hello.txt"]].concat(), 1);
    session.matches("verify-blob");
}

#[test]
fn verify_blob_attestation() {
    let mut session = Session::start();
    session.keyless();
    session.usage(&["verify-blob-attestation"], &["--frobnicate"]);
    let bundle = ["verify-blob-attestation", "--bundle", "bundles/attest-rekor1_tsa.json"];
    session.larder(&[&bundle[..], &ALICE, &["blobs/hello.txt"]].concat(), 0);
    session.larder(&[&bundle[..], &ALICE, &["--output", "json", "blobs/hello.txt"]].concat(), 0);
    session.larder(&[&bundle[..], &ALICE, &["--type", "spdxjson", "blobs/hello.txt"]].concat(), 1);
    session.larder(&[&bundle[..], &ALICE, &["blobs/other.txt"]].concat(), 1);
    session.larder(&[&bundle[..], &ALICE, &["--check-claims=false"]].concat(), 0);
    session.matches("verify-blob-attestation");
}

#[test]
fn watch() {
    let mut session = Session::furnished();
    session.usage(&["watch"], &["--from", "yesterday"]);
    for words in [&["watch", "--from", "start"][..], &["watch", "--output", "json"]] {
        let mut child = session.world.home.invoke(words).spawn();
        let mut lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
        let mut stdout = String::new();
        // The last of what is on record: from here on it waits.
        while !stdout.contains("by release") && !stdout.contains("complete") {
            stdout.push_str(&lines.next().expect("what is on record").expect("its stdout"));
            stdout.push('\n');
        }
        kill_process(Pid::from_child(&child), Signal::INT).expect("Ctrl-C");
        let mut stderr = String::new();
        child.stderr.take().expect("its stderr").read_to_string(&mut stderr).expect("its stderr");
        let code = child.wait().expect("its end").code().unwrap_or(-1);
        session.note(words, Output { code, stdout, stderr }, 0);
    }
    session.larder(&["watch", "--from", "999999"], 1);
    session.matches("watch");
}

#[test]
fn log() {
    let mut session = Session::furnished();
    session.usage(&["log"], &["-n", "many"]);
    session.larder(&["log", &session.reference("1.0")], 0);
    session.larder(&["log", "-n", "2"], 0);
    session.larder(&["log", &session.reference("1.0"), "-n", "2", "--output", "json"], 0);
    session.larder(&["log", "alpine"], 0);
    session.larder(&["log", "Alpine:1"], 1);
    session.matches("log");
}

#[test]
fn trust() {
    let mut session = Session::start();
    session.world.upstream("1.0", &[&Signer::new("release")]);
    session.world.upstream("1.1", &[]);
    session.world.pull("1.0");
    session.world.pull("1.1");
    session.world.home.write_beside("release.pub", Signer::new("release").public_pem());
    session.world.home.write_beside("notakey.txt", "hello\n");
    session.usage(&["trust"], &[]);
    session.larder(&["trust", "list"], 0);
    session.usage(&["trust", "add"], &[]);
    let scope = format!("{}/**", session.world.registry.host());
    session.larder(&["trust", "add", "release.pub", "--for", &scope, "--dry-run"], 0);
    session.larder(&["trust", "add", "release.pub", "--for", &scope], 0);
    session.larder(&["trust", "add", "release.pub", "--for", &scope, "--output", "json"], 0);
    session.larder(&["trust", "add", "notakey.txt"], 1);
    session.larder(&["trust", "add", "none.pub"], 1);
    session.usage(&["trust", "list"], &["x"]);
    session.larder(&["trust", "list"], 0);
    let listed = session.larder(&["trust", "list", "--output", "json"], 0);
    // The key's scope names the registry's port.
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    session.transcript.hide(listed["health"]["set"].as_str().expect("a digest"), "sha256:…");
    session.usage(&["trust", "add-root"], &[]);
    session.larder(&["trust", "add-root", "--public-good", "--dry-run"], 0);
    session.larder(&["trust", "add-root", "--public-good", "--output", "json"], 0);
    session.larder(&["trust", "add-root", "--public-good"], 0);
    session.larder(&["trust", "add-root", "notakey.txt"], 1);
    session.larder(&["trust", "remove", "public-good"], 0);
    session.usage(&["trust", "allow"], &[]);
    session.larder(&["trust", "allow", &session.reference("1.1"), "--dry-run"], 2);
    let repository = session.reference("1.0").trim_end_matches(":1.0").to_owned();
    session.larder(&["trust", "allow", &repository, "--dry-run"], 0);
    session.larder(&["trust", "allow", &repository], 0);
    session.larder(&["trust", "allow", &repository, "--output", "json"], 0);
    session.larder(&["trust", "allow", "[x"], 1);
    session.usage(&["trust", "remove"], &[]);
    session.larder(&["trust", "remove", "release", "--dry-run"], 0);
    session.larder(&["trust", "remove", "release", "--output", "json"], 0);
    session.larder(&["trust", "remove", "release"], 1);
    session.matches("trust");
}

#[test]
fn key() {
    let mut session = Session::start();
    session.usage(&["key"], &["x"]);
    session.usage(&["key", "generate"], &["x"]);
    session.larder(&["key", "generate"], 0);
    session.larder(&["key", "generate"], 1);
    session.usage(&["key", "import"], &["x"]);
    session.usage(&["key", "public"], &["x"]);
    let keys = harness::binaries::workspace().join("tests/fixtures/cosign/keys");
    session.world.home.write_beside("openssl.pem", fs::read(keys.join("ed25519.pem")).expect("a key"));
    session.world.home.write_beside("theirs.key", fs::read(keys.join("p256.key")).expect("a key"));
    session.larder(&["key", "import", "--key", "openssl.pem"], 0);
    session.larder(&["key", "import", "--key", "theirs.key"], 1);
    session.larder(&["key", "public", "--key", "theirs.key"], 0);
    session.larder(&["key", "public", "--key", "openssl.pem"], 1);
    let made = session.larder(&["key", "generate", "--output-key-prefix", "ci", "--output", "json"], 0);
    let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
    session.transcript.hide(made["id"].as_str().expect("an id"), "KEY-ID");
    for name in ["cosign.pub", "ci.pub"] {
        session.world.home.larder(["trust", "add", name]).exits(0);
    }
    let keys = session.world.home.larder(["trust", "list", "--output", "json"]).json();
    for key in keys["keys"].as_array().expect("keys") {
        session.transcript.hide(&key["id"].as_str().expect("an id")[..12], "KEY-ID");
    }
    session.matches("key");
}

#[test]
fn sign() {
    let mut session = Session::furnished();
    let keys = harness::binaries::workspace().join("tests/fixtures/cosign/keys");
    session.world.home.write_beside("cosign.key", fs::read(keys.join("p256.key")).expect("a key"));
    let plain = session.reference("1.1");
    session.usage(&["sign"], &["--key", "cosign.key"]);
    session.larder(&["sign", &plain], 2);
    session.larder(&["sign", "--key", "cosign.key", &plain], 0);
    let signed = session.larder(&["sign", "--key", "cosign.key", &plain, "--output", "json"], 0);
    // It names the registry's port.
    let signed: serde_json::Value = serde_json::from_str(&signed).expect("JSON");
    session.transcript.hide(signed["manifest"].as_str().expect("a digest"), "sha256:…");
    session.larder(&["sign", "--key", "cosign.key", "alpine"], 1);
    session.larder(&["sign", "--key", "none.key", &plain], 1);
    session.larder(&["sign", "--key", "release.pub", &plain], 1);
    session.matches("sign");
}

#[test]
fn attest() {
    let mut session = Session::furnished();
    let keys = harness::binaries::workspace().join("tests/fixtures/cosign/keys");
    session.world.home.write_beside("cosign.key", fs::read(keys.join("p256.key")).expect("a key"));
    session.world.home.write_beside("sbom.json", "{\"bomFormat\":\"CycloneDX\"}");
    session.world.home.write_beside("broken.json", "{\"bomFormat\":");
    let plain = session.reference("1.1");
    session.usage(&["attest"], &[&plain]);
    let attest = ["attest", "--key", "cosign.key", "--type", "cyclonedx", "--predicate"];
    session.larder(&[&attest[..], &["sbom.json", &plain]].concat(), 0);
    session.larder(&[&attest[..], &["sbom.json", &plain]].concat(), 0);
    let attested = session.larder(&[&attest[..], &["sbom.json", &plain, "--output", "json"]].concat(), 0);
    // It names the registry's port.
    let attested: serde_json::Value = serde_json::from_str(&attested).expect("JSON");
    session.transcript.hide(attested["manifest"].as_str().expect("a digest"), "sha256:…");
    session.larder(&[&attest[..], &["broken.json", &plain]].concat(), 1);
    session.larder(&[&attest[..], &["none.json", &plain]].concat(), 1);
    session.matches("attest");
}

#[test]
fn daemon() {
    let mut session = Session::start();
    session.usage(&["daemon"], &["restart"]);
    session.usage(&["daemon", "status"], &["x"]);
    session.larder(&["daemon", "status"], 0);
    session.larder(&["daemon", "status", "--output", "json"], 0);
    session.usage(&["daemon", "start"], &["x"]);
    session.larder(&["daemon", "start"], 0);
    session.larder(&["daemon", "prune-journal", "--help"], 0);
    session.larder(&["daemon", "prune-journal", "--dry-run"], 0);
    session.larder(&["daemon", "prune-journal", "--keep-days", "0", "--output", "json"], 0);
    session.larder(&["daemon", "prune-journal", "--keep-days", "soon"], 2);
    session.usage(&["daemon", "stop"], &["x"]);
    session.larder(&["daemon", "stop"], 0);
    session.larder(&["daemon", "stop"], 0);
    session.larder(&["daemon", "status"], 1);
    session.matches("daemon");
}

#[test]
fn quickstart() {
    let mut session = Session::start();
    session.usage(&["quickstart"], &["a", "b"]);
    session.larder(&["quickstart", "localhost/none", "--output", "json"], 1);
    session.larder(&["quickstart", "localhost/none:1:2", "--output", "json"], 1);
    session.matches("quickstart");
}

#[test]
fn completion() {
    let mut session = Session::start();
    session.usage(&["completion"], &["cmd"]);
    session.begins(&["completion", "bash"], 2);
    session.begins(&["completion", "zsh"], 2);
    session.matches("completion");
}

#[test]
fn man() {
    let mut session = Session::start();
    session.usage(&["man"], &[]);
    session.larder(&["man", "man1"], 0);
    session.larder(&["man", "man1", "--output", "json"], 0);
    session.larder(&["man", "/dev/null/man1"], 1);
    session.matches("man");
}

/// Lists the verbs that a help text names.
fn verbs(help: &str) -> Vec<String> {
    let commands = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = commands.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(ToOwned::to_owned).collect()
}

#[test]
fn every_verb_has_a_snapshot() {
    /// What has no JSON of its own: a script, and pages that are files.
    const NO_JSON: [&str; 2] = ["completion", "quickstart"];
    /// What has no success in its transcript: its story is told by tests of its own.
    const NO_SUCCESS: [&str; 1] = ["quickstart"];
    let home = Home::new();
    let top = verbs(&home.larder(["--help"]).exits(0).stdout);
    assert!(top.len() > 15, "{top:?}");
    for verb in top {
        let transcript = fs::read_to_string(file(&verb)).unwrap_or_default();
        let transcript = format!("\n\n{transcript}");
        let below = verbs(&home.larder([verb.as_str(), "--help"]).exits(0).stdout);
        let runs: Vec<&str> = transcript.split("\n\n$ ").collect();
        let has = |words: &str, code: &str| {
            runs.iter().any(|run| run.contains(words) && run.contains(&format!("\nexit {code}")))
        };
        let names = below.iter().map(|name| format!("larder {verb} {name}"));
        for name in names.chain([format!("larder {verb}")]) {
            assert!(has(&format!("{name} --help"), "0"), "no help of `{name}` in {}", file(&verb).display());
        }
        let usage = if verb.starts_with("verify") { "1" } else { "2" };
        assert!(has("--help", usage), "no wrong usage of `{verb}`");
        let succeeds = runs.iter().any(|run| run.contains("\nexit 0") && !run.contains("--help"));
        assert!(succeeds || NO_SUCCESS.contains(&verb.as_str()), "nothing that `{verb}` does well");
        assert!(
            has("--output json", "0") || NO_JSON.contains(&verb.as_str()) || has("--output json", "3"),
            "no JSON of `{verb}`"
        );
    }
}
