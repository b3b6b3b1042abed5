//! cosign signs into the endpoint, and accepts what Larder signed.

use harness::{Content, Home, Image};
use larder_proto::v1::State;

use crate::tools::{Registry, Stage, attempt, greeting};

const PASSWORD: [(&str, &str); 1] = [("COSIGN_PASSWORD", "larder")];

pub(crate) fn signs_into_the_endpoint() {
    let home = Home::new();
    let daemon = home.start();
    let image = Image::small("signed by cosign");
    daemon.http().push("team/app", "1.0", &image);
    let keys = harness::fixtures::cosign().join("keys");
    home.trust().write("keys/p256.pub", harness::fixtures::public_key("p256.pub"));
    daemon.client().trust_becomes("settled", 1, 0);
    assert_eq!(daemon.client().state("localhost/team/app:1.0"), State::Unsigned);
    let key = keys.join("p256.key");
    let target = format!("{}/team/app@{}", daemon.endpoint(), image.digest());
    let arguments = ["sign", "--yes", "--tlog-upload=false", "--key", key.to_str().expect("UTF-8"), &target];
    let (code, stdout, stderr) = attempt("cosign", arguments, &PASSWORD);
    assert_eq!(code, 0, "cosign sign: {stdout}{stderr}");
    daemon.client().becomes("localhost/team/app:1.0", State::Verified);
    // It can be read back: cosign verifies from the endpoint.
    let public = keys.join("p256.pub");
    let arguments = ["verify", "--insecure-ignore-tlog", "--key", public.to_str().expect("UTF-8"), &target];
    let (code, stdout, stderr) = attempt("cosign", arguments, &[]);
    assert_eq!(code, 0, "cosign verify: {stdout}{stderr}");
}

pub(crate) fn verifies_what_larder_signed() {
    let home = Home::new();
    let daemon = home.start();
    let registry = Registry::docker();
    let image = Image::small("signed by larder");
    registry.http().push("store/app", "1.0", &image);
    let reference = format!("{}/store/app:1.0", registry.host());
    home.larder(["pull", &reference]).exits(0);
    let prefix = home.beside("mine");
    let arguments = ["key", "generate", "--output-key-prefix", prefix.to_str().expect("UTF-8")];
    home.invoke(arguments).env("COSIGN_PASSWORD", "larder").run().exits(0);
    let (private, public) = (home.beside("mine.key"), home.beside("mine.pub"));
    let arguments = ["sign", "--key", private.to_str().expect("UTF-8"), &reference];
    home.invoke(arguments).env("COSIGN_PASSWORD", "larder").run().exits(0);
    home.larder(["push", &reference]).exits(0);
    let arguments = ["verify", "--insecure-ignore-tlog", "--key", public.to_str().expect("UTF-8"), &reference];
    let (code, stdout, stderr) = attempt("cosign", arguments, &[]);
    assert_eq!(code, 0, "cosign verify: {stdout}{stderr}");
    assert!(stdout.contains(&image.digest().to_string()), "{stdout}");
    // The key pair is cosign's too: cosign signs with it, beside Larder's signature.
    let target = format!("{}/store/app@{}", registry.host(), image.digest());
    let arguments =
        ["sign", "--yes", "--tlog-upload=false", "-a", "by=cosign", "--key", private.to_str().expect("UTF-8"), &target];
    let (code, stdout, stderr) = attempt("cosign", arguments, &PASSWORD);
    assert_eq!(code, 0, "cosign sign: {stdout}{stderr}");
    home.larder(["trust", "add", public.to_str().expect("UTF-8")]).exits(0);
    home.larder(["pull", "--verified", &reference]).exits(0);
    assert_eq!(daemon.client().state(&reference), State::Verified);
}

/// cosign 2.6.1 at the endpoint: everything that it writes there it reads back, while the image is not accepted and after.
pub(crate) fn version_2_at_the_endpoint() {
    let mut stage = Stage::new();
    stage.set("COSIGN_PASSWORD", "larder");
    let (image, key, public) = prepare(&stage);
    let target = stage.at(&format!("team/app@{}", image.digest()));
    let verify = format!("cosign verify --insecure-ignore-tlog --key {public} {target}");
    stage.run(&verify).fails_with(&["no signatures found"]);
    stage.run(&format!("cosign sign --yes --tlog-upload=false --key {key} {target}")).succeeds();
    stage.daemon.client().becomes("localhost/team/app:1.0", State::Verified);
    assert!(stage.run(&verify).succeeds().contains(&image.digest().to_string()));
    // A second one is appended by rewriting the tag; both count.
    stage.run(&format!("cosign sign --yes --tlog-upload=false -a second=yes --key {key} {target}")).succeeds();
    assert!(
        stage.run(&format!("cosign verify -a second=yes --insecure-ignore-tlog --key {public} {target}")).code == 0
    );
    let attest = "cosign attest --yes --tlog-upload=false --type custom --predicate predicate.json";
    stage.run(&format!("{attest} --key {key} {target}")).succeeds();
    let verify = "cosign verify-attestation --insecure-ignore-tlog --type custom";
    stage.run(&format!("{verify} --key {public} {target}")).succeeds();
    stage.run(&format!("cosign attach sbom --sbom predicate.json {target}")).succeeds();
    assert_eq!(stage.run(&format!("cosign download sbom {target}")).succeeds().trim(), "{\"a\":1}");
    let tree = stage.run(&format!("cosign tree {target}")).succeeds();
    for kind in ["Signatures", "Attestations", "SBOMs"] {
        assert!(tree.contains(kind), "{tree}");
    }
    // With all of it to another name, where it is verified as well.
    stage.run(&format!("cosign copy {target} {}:1.0", stage.at("team/copy"))).succeeds();
    stage.daemon.client().becomes("localhost/team/copy:1.0", State::Verified);
    // By the referrers API, too.
    stage.set("COSIGN_EXPERIMENTAL", "1");
    let other = greeting("signed by a referrer");
    stage.daemon.http().push("team/other", "1.0", &other);
    let target = stage.at(&format!("team/other@{}", other.digest()));
    let sign = "cosign sign --yes --tlog-upload=false --registry-referrers-mode=oci-1-1";
    stage.run(&format!("{sign} --key {key} {target}")).succeeds();
    stage.daemon.client().becomes("localhost/team/other:1.0", State::Verified);
}

/// cosign 3.1.3 at the endpoint: bundles as referrers.
pub(crate) fn version_3_at_the_endpoint() {
    let mut stage = Stage::new();
    stage.set("COSIGN_PASSWORD", "larder");
    let (image, key, public) = prepare(&stage);
    let target = stage.at(&format!("team/app@{}", image.digest()));
    // Without a transparency log.
    stage.run("cosign-v3 signing-config create --out config.json").succeeds();
    let with = format!("--yes --signing-config config.json --key {key} {target}");
    stage.run(&format!("cosign-v3 sign {with}")).succeeds();
    stage.run(&format!("cosign-v3 attest --type custom --predicate predicate.json {with}")).succeeds();
    let offline = format!("--insecure-ignore-tlog --key {public} {target}");
    let verified = stage.run(&format!("cosign-v3 verify {offline}")).succeeds();
    assert!(verified.contains(&image.digest().to_string()), "{verified}");
    stage.run(&format!("cosign-v3 verify-attestation --type custom {offline}")).succeeds();
    let tree = stage.run(&format!("cosign-v3 tree {target}")).succeeds();
    assert!(tree.contains("cosign/sign/v1") && tree.contains("attestation/v1"), "{tree}");
    stage.daemon.client().becomes("localhost/team/app:1.0", State::Verified);
    // A classic signature by version 2 is read by version 3, where there is no bundle.
    let classic = greeting("classic");
    stage.daemon.http().push("team/classic", "1.0", &classic);
    let target = stage.at(&format!("team/classic@{}", classic.digest()));
    stage.run(&format!("cosign sign --yes --tlog-upload=false --key {key} {target}")).succeeds();
    stage.run(&format!("cosign-v3 verify --insecure-ignore-tlog --key {public} {target}")).succeeds();
    stage.daemon.client().becomes("localhost/team/classic:1.0", State::Verified);
}

/// Pushes an unsigned image to `team/app:1.0` and trusts the key that will sign it: (image, private key, public key).
fn prepare(stage: &Stage) -> (Content, String, String) {
    let image = greeting("signed at the endpoint");
    stage.daemon.http().push("team/app", "1.0", &image);
    std::fs::write(stage.file("predicate.json"), "{\"a\":1}").expect("a file");
    let keys = harness::fixtures::cosign().join("keys");
    stage.home.trust().write("keys/p256.pub", harness::fixtures::public_key("p256.pub"));
    stage.daemon.client().trust_becomes("settled", 1, 0);
    let path = |name: &str| keys.join(name).display().to_string();
    (image, path("p256.key"), path("p256.pub"))
}
