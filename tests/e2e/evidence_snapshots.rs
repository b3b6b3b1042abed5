//! What the verbs about evidence say, word by word, as [`cli_snapshots`](crate::cli_snapshots) has it.

use harness::fixtures::{Layout, public_key};
use larder_core::Digest;

use crate::session::Session;

#[test]
fn attach() {
    let mut session = Session::furnished();
    let reference = session.reference("1.1");
    session.world.home.write_beside("app.spdx", "SPDXVersion: SPDX-2.3\n");
    session.world.home.write_beside("bom.json", "{}\n");
    session.world.home.write_beside("empty.json", "");
    session.usage(&["attach"], &[]);
    session.usage(&["attach", "sbom"], &[&reference]);
    session.larder(&["attach", "sbom", "--sbom", "app.spdx", &reference], 0);
    session.larder(&["attach", "sbom", "--sbom", "app.spdx", &reference], 0);
    session.larder(&["attach", "sbom", "--sbom", "bom.json", "--type", "cyclonedx", &reference], 0);
    session.larder(&["attach", "sbom", "--sbom", "bom.json", "--type", "syft", &reference, "--output", "json"], 0);
    session.larder(&["attach", "sbom", "--sbom", "app.spdx", "--input-format", "xml", &reference], 2);
    session.larder(&["attach", "sbom", "--sbom", "none.spdx", &reference], 1);
    session.larder(&["attach", "sbom", "--sbom", "empty.json", &reference], 1);
    session.larder(&["attach", "sbom", "--sbom", "app.spdx", "alpine"], 1);
    session.usage(&["attach", "signature"], &[&reference]);
    session.larder(&["attach", "signature", "--signature", "MAA=", &reference], 0);
    let attached = session.larder(&["attach", "signature", "--signature", "MAA=", &reference, "--output", "json"], 0);
    // It names the registry's port.
    let attached: serde_json::Value = serde_json::from_str(&attached).expect("JSON");
    session.transcript.hide(attached["manifest"].as_str().expect("a digest"), "sha256:…");
    session.larder(&["attach", "signature", "--signature", "none.sig", &reference], 1);
    session.usage(&["attach", "attestation"], &[&reference]);
    session.larder(&["attach", "attestation", "--attestation", "bom.json", &reference], 1);
    session.matches("attach");
}

#[test]
fn copy() {
    let mut session = Session::furnished();
    let (signed, other) = (session.reference("1.0"), session.reference("1.1"));
    let mirror = session.world.registry.reference("mirror/app", "1.0");
    session.usage(&["copy"], &[&signed]);
    session.larder(&["copy", "--only", "sig", &signed, &mirror], 2);
    session.larder(&["copy", &signed, &mirror], 0);
    session.larder(&["copy", &signed, &mirror, "--output", "json"], 0);
    session.larder(&["copy", &other, &mirror], 1);
    session.larder(&["copy", &session.reference("none"), &mirror], 1);
    session.larder(&["copy", &signed, "localhost/team/app:dev"], 2);
    session.matches("copy");
}

/// With what cosign attached to `store/single:1.0.0`, and its key trusted.
fn of_cosign() -> (Session, String) {
    let session = Session::start();
    Layout::open("single").load_into(&session.world.registry, "store/single");
    let reference = session.world.registry.reference("store/single", "1.0.0");
    session.world.home.larder(["pull", &reference]).exits(0);
    session.world.home.write_beside("p256.pub", public_key("p256.pub"));
    session.world.home.larder(["trust", "add", "p256.pub"]).exits(0);
    (session, reference)
}

#[test]
fn sbom() {
    let (mut session, reference) = of_cosign();
    session.usage(&["sbom"], &["x"]);
    session.usage(&["sbom", "ls"], &[]);
    session.larder(&["sbom", "ls", &reference], 0);
    session.larder(&["sbom", "ls", &reference, "--output", "json"], 0);
    session.usage(&["sbom", "show"], &[]);
    session.begins(&["sbom", "show", &reference], 3);
    let digest = Digest::of(b"x").to_string();
    session.larder(&["sbom", "show", &reference, "--digest", &digest], 1);
    session.larder(&["sbom", "show", &reference, "--platform", "linux/arm64"], 1);
    session.larder(&["sbom", "show", "alpine"], 1);
    session.matches("sbom");
}

#[test]
fn download() {
    let (mut session, reference) = of_cosign();
    session.usage(&["download"], &["x"]);
    session.usage(&["download", "signature"], &[]);
    session.larder(&["download", "signature", &reference], 0);
    session.larder(&["download", "signature", &reference, "--output", "json"], 0);
    session.usage(&["download", "attestation"], &["--predicate-type", "nope", &reference]);
    session.larder(&["download", "attestation", "--predicate-type", "custom", &reference], 0);
    session.larder(&["download", "attestation", "--predicate-type", "vuln", &reference], 1);
    session.usage(&["download", "sbom"], &[]);
    session.begins(&["download", "sbom", &reference], 3);
    session.larder(&["download", "sbom", "alpine"], 1);
    session.matches("download");
}

#[test]
fn triangulate() {
    let mut session = Session::furnished();
    let reference = session.reference("1.0");
    session.usage(&["triangulate"], &["--type", "referrer", &reference]);
    session.larder(&["triangulate", &reference], 0);
    session.larder(&["triangulate", "--type", "digest", &reference, "--output", "json"], 0);
    session.larder(&["triangulate", &session.reference("none")], 1);
    session.larder(&["triangulate", "localhost/team/app:1"], 1);
    session.matches("triangulate");
}

#[test]
fn clean() {
    let (mut session, reference) = of_cosign();
    session.usage(&["clean"], &[]);
    session.larder(&["clean", &reference], 1);
    session.larder(&["clean", "--dry-run", &reference], 0);
    session.larder(&["clean", "--type", "sbom", "--yes", &reference, "--output", "json"], 0);
    session.larder(&["clean", "--yes", &reference], 0);
    session.larder(&["clean", "--yes", &reference], 0);
    session.larder(&["clean", "--yes", "alpine"], 1);
    session.matches("clean");
}
