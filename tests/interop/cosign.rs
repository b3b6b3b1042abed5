//! cosign signs into the endpoint, and accepts what Larder signed.

use harness::{Home, Image};
use larder_proto::v1::State;

use crate::tools::{Registry, attempt};

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
