use std::fs;

use bytes::Bytes;
use harness::{FakeRegistry, Home, Image, Signer};
use larder_proto::v1::{AttachSignatureRequest, PrepareSignatureRequest, State};

use crate::world::{APP, World};

/// Generates a key pair `NAME.key`, `NAME.pub` beside the home.
#[track_caller]
fn generate(home: &Home, name: &str) {
    let prefix = home.beside(name);
    let arguments = ["key", "generate", "--output-key-prefix", prefix.to_str().expect("UTF-8")];
    home.invoke(arguments).env("COSIGN_PASSWORD", "larder").run().exits(0);
    let private = fs::read_to_string(home.beside(&format!("{name}.key"))).expect("the private key");
    assert!(private.contains("ENCRYPTED SIGSTORE PRIVATE KEY"), "cosign's key file: {private}");
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(home.beside(&format!("{name}.key"))).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o077, 0, "a private key is nobody else's");
}

#[track_caller]
fn sign(home: &Home, key: &str, reference: &str) -> harness::Output {
    let path = home.beside(&format!("{key}.key"));
    home.invoke(["sign", "--key", path.to_str().expect("UTF-8"), reference]).env("COSIGN_PASSWORD", "larder").run()
}

#[test]
fn what_is_signed_here_is_verified_here_and_where_it_is_pushed() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    generate(&world.home, "mine");
    let public = world.home.beside("mine.pub");
    world.home.larder(["trust", "add", public.to_str().expect("UTF-8")]).exits(0);
    assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Unsigned);
    sign(&world.home, "mine", &world.reference("1.0")).exits(0);
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    // Signing the same by the same key again is no error.
    sign(&world.home, "mine", &world.reference("1.0")).exits(0);

    let target = FakeRegistry::start();
    let destination = target.reference(APP, "1.0");
    world.home.larder(["push", &world.reference("1.0"), &destination]).exits(0);
    let other = Home::new();
    let daemon = other.start();
    other.larder(["trust", "add", public.to_str().expect("UTF-8")]).exits(0);
    other.larder(["pull", "--verified", &destination]).exits(0);
    assert_eq!(daemon.client().state(&destination), State::Verified);
}

#[test]
fn a_second_signer_is_added_to_the_first() {
    let world = World::start();
    let image = world.upstream("1.0", &[&Signer::new("first")]);
    world.pull("1.0");
    generate(&world.home, "second");
    sign(&world.home, "second", &world.reference("1.0")).exits(0);
    let served = world.daemon.http().manifest(&world.served(), &image.digest_tag(".sig")).is(200);
    let manifest: serde_json::Value = serde_json::from_slice(&served.body).expect("the signature manifest");
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(2), "{manifest}");
}

#[test]
fn annotations_are_signed_as_they_were_given() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    generate(&world.home, "mine");
    world.home.larder(["trust", "add", world.home.beside("mine.pub").to_str().expect("UTF-8")]).exits(0);
    let (key, reference) = (world.home.beside("mine.key"), world.reference("1.0"));
    // Letters that cosign's JSON escapes, and one that no escape is for.
    let arguments =
        ["sign", "--key", key.to_str().expect("UTF-8"), "-a", "env=<prod> & \u{e9}", "-a", "team=", &reference];
    world.home.invoke(arguments).env("COSIGN_PASSWORD", "larder").run().exits(0);
    world.daemon.client().becomes(&reference, State::Verified);
    let verified: serde_json::Value = world.home.larder(["verify", &reference]).exits(0).json();
    assert_eq!(verified[0]["optional"], serde_json::json!({"env": "<prod> & \u{e9}", "team": ""}), "{verified}");
}

#[test]
fn a_wrong_password_and_a_wrong_key_file() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    generate(&world.home, "mine");
    let key = world.home.beside("mine.key");
    let arguments = ["sign", "--key", key.to_str().expect("UTF-8"), &world.reference("1.0")];
    world.home.invoke(arguments).env("COSIGN_PASSWORD", "wrong").run().exits(1).is_a_clear_error("mine.key");
    let junk = world.home.write_beside("junk.key", "no key");
    let arguments = ["sign", "--key", junk.to_str().expect("UTF-8"), &world.reference("1.0")];
    world.home.invoke(arguments).env("COSIGN_PASSWORD", "larder").run().exits(1).is_a_clear_error("junk.key");
    assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Unsigned);
}

#[test]
fn keys_of_cosign_are_read() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    let keys = harness::fixtures::cosign().join("keys");
    world.home.trust().write("keys/p256.pub", harness::fixtures::public_key("p256.pub"));
    let key = keys.join("p256.key");
    let arguments = ["sign", "--key", key.to_str().expect("UTF-8"), &world.reference("1.0")];
    world.home.invoke(arguments).env("COSIGN_PASSWORD", "larder").run().exits(0);
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
}

#[test]
fn a_key_pair_is_not_overwritten() {
    let home = Home::new();
    generate(&home, "mine");
    let before = fs::read(home.beside("mine.key")).expect("the key");
    let prefix = home.beside("mine");
    let arguments = ["key", "generate", "--output-key-prefix", prefix.to_str().expect("UTF-8")];
    home.invoke(arguments).env("COSIGN_PASSWORD", "larder").run().exits(1).is_a_clear_error("mine.key");
    assert_eq!(fs::read(home.beside("mine.key")).expect("the key"), before);
}

#[test]
fn the_daemon_stores_only_signatures_that_verify() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    let (mut signatures, signer) = (world.daemon.client().signatures(), Signer::new("api"));
    let request = PrepareSignatureRequest { reference: world.reference("1.0"), ..Default::default() };
    let prepared = harness::block(signatures.prepare_signature(request)).expect("PrepareSignature").into_inner();
    let attach = |signature: Bytes, payload: Bytes| AttachSignatureRequest {
        repository: prepared.repository.clone(),
        digest: prepared.digest.clone(),
        payload,
        signature,
        public_key: signer.public_pem(),
        ..Default::default()
    };
    let good = Bytes::from(signer.sign_bytes(&prepared.payload));
    let other = Bytes::from(Signer::new("another").sign_bytes(&prepared.payload));
    let foreign = Signer::new("api").sign(&Image::small("another image").digest()).payload;
    let foreign_signature = Bytes::from(signer.sign_bytes(&foreign));
    for (signature, payload) in
        [(other, prepared.payload.clone()), (Bytes::new(), prepared.payload.clone()), (foreign_signature, foreign)]
    {
        let error = harness::block(signatures.attach_signature(attach(signature, payload))).expect_err("not stored");
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error:?}");
    }
    assert_eq!(world.daemon.client().state(&world.reference("1.0")), State::Unsigned, "nothing was stored");
    let first = harness::block(signatures.attach_signature(attach(good.clone(), prepared.payload.clone())));
    assert!(first.expect("AttachSignature").into_inner().added);
    let again = harness::block(signatures.attach_signature(attach(good, prepared.payload.clone())));
    assert!(!again.expect("AttachSignature").into_inner().added);
}
