//! Signing in both formats, by every kind of key, and what a registry then holds.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::image::host_architecture;
use harness::{Content, FakeRegistry, Home, Image, Index};
use larder_core::Digest;
use larder_core::check::Checker;
use larder_core::key::PublicKey;
use larder_core::signature::dsse::{IN_TOTO, pae};
use serde_json::{Value, json};

use crate::world::{APP, World};

/// cosign's own keys of every kind; their password is `larder`.
const KEYS: [&str; 6] = ["p256", "imp-ec-P-384", "imp-ec-P-521", "imp-rsa2048", "imp-pkcs1", "imp-ed25519"];
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

fn key_file(name: &str) -> PathBuf {
    harness::fixtures::cosign().join("keys").join(name)
}

/// Runs `larder sign` or another verb with one of cosign's keys.
#[track_caller]
pub(crate) fn with_key(home: &Home, verb: &str, key: &str, rest: &[&str]) -> harness::Output {
    let path = key_file(&format!("{key}.key"));
    let arguments = [&[verb, "--key", path.to_str().expect("UTF-8")], rest].concat();
    home.invoke(arguments).env("COSIGN_PASSWORD", "larder").run()
}

/// Reads JSON from a registry's or the endpoint's manifests or blobs.
fn fetch(http: &harness::Http, repository: &str, reference: &str) -> Value {
    serde_json::from_slice(&http.manifest(repository, reference).is(200).body).expect("a manifest")
}

pub(crate) fn blob(http: &harness::Http, repository: &str, descriptor: &Value) -> Vec<u8> {
    let digest: Digest = descriptor["digest"].as_str().expect("a digest").parse().expect("a digest");
    http.blob(repository, &digest).is(200).body.to_vec()
}

/// Returns the statement in a bundle or an envelope, after its signature was checked against a key.
#[track_caller]
pub(crate) fn checked(envelope: &Value, key: &str) -> Value {
    let bytes = |value: &Value| STANDARD.decode(value.as_str().expect("text")).expect("base64");
    assert_eq!(envelope["payloadType"], IN_TOTO);
    let (payload, signatures) = (bytes(&envelope["payload"]), envelope["signatures"].as_array().expect("signatures"));
    assert_eq!(signatures.len(), 1);
    let public = PublicKey::from_pem(harness::fixtures::public_key(&format!("{key}.pub")).as_bytes()).expect("a key");
    let message = pae(IN_TOTO, &payload);
    assert!(Checker::new(&message, &bytes(&signatures[0]["sig"])).check(&public).is_some(), "{key}: {envelope}");
    serde_json::from_slice(&payload).expect("a statement")
}

/// The referrers of an image, as its registry lists them by the API or under the fallback tag.
fn referrers(registry: &FakeRegistry, image: &Content, has_api: bool) -> Value {
    let http = harness::Http::new(&registry.host());
    if has_api {
        let answer = http.get(&format!("/v2/{APP}/referrers/{}", image.digest())).is(200);
        return serde_json::from_slice(&answer.body).expect("an index");
    }
    fetch(&http, APP, &image.digest_tag(""))
}

#[test]
fn every_kind_of_key_signs_in_both_formats() {
    let world = World::start();
    for key in KEYS {
        let image = world.upstream(key, &[]);
        world.pull(key);
        let reference = world.reference(key);
        let signed = with_key(&world.home, "sign", key, &["--format", "both", "-a", "env=<prod>,team=x", &reference]);
        signed.exits(0).says(&["the signature is at", "the bundle is in the referrer"]);
        world.home.larder(["push", "--signatures", &reference]).exits(0);

        let http = harness::Http::new(&world.registry.host());
        let classic = fetch(&http, APP, &image.digest_tag(".sig"));
        let layer = &classic["layers"][0];
        let payload = blob(&http, APP, layer);
        let public = PublicKey::from_pem(harness::fixtures::public_key(&format!("{key}.pub")).as_bytes());
        let raw = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().expect("a signature");
        let raw = STANDARD.decode(raw).expect("base64");
        assert!(Checker::new(&payload, &raw).check(&public.clone().expect("a key")).is_some(), "{key}");
        let payload = String::from_utf8(payload).expect("UTF-8");
        assert!(payload.contains(&image.digest().to_string()), "{payload}");
        assert!(payload.ends_with(r#""optional":{"env":"\u003cprod\u003e","team":"x"}}"#), "{payload}");

        let listed = referrers(&world.registry, &image, false);
        assert_eq!(listed["manifests"].as_array().map(Vec::len), Some(1), "{listed}");
        let referrer = fetch(&http, APP, listed["manifests"][0]["digest"].as_str().expect("a digest"));
        assert_eq!(referrer["subject"]["digest"], image.digest().to_string());
        let bundle: Value = serde_json::from_slice(&blob(&http, APP, &referrer["layers"][0])).expect("a bundle");
        let hint = STANDARD.encode(public.expect("a key").id().0);
        assert_eq!(bundle["verificationMaterial"], json!({"publicKey": {"hint": hint}}));
        let statement = checked(&bundle["dsseEnvelope"], key);
        assert_eq!(statement["subject"][0]["digest"]["sha256"], image.digest().hex());
        assert_eq!(statement["subject"][0]["annotations"], json!({"env": "<prod>", "team": "x"}));
    }
}

#[test]
fn the_same_twice_is_said_and_another_is_added() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    // P-521 signs the same bytes otherwise each time.
    for key in ["p256", "imp-ec-P-521"] {
        for format in ["legacy", "bundle"] {
            with_key(&world.home, "sign", key, &["--format", format, &reference]).exits(0);
            let again = with_key(&world.home, "sign", key, &["--format", format, &reference]).exits(0);
            again.says(&["already; nothing was changed"]);
            with_key(&world.home, "sign", key, &["--format", format, "-a", "second=yes", &reference]).exits(0);
        }
    }
    let classic = fetch(&world.daemon.http(), &world.served(), &image.digest_tag(".sig"));
    assert_eq!(classic["layers"].as_array().map(Vec::len), Some(4));
    let listed = world.daemon.http().get(&format!("/v2/{}/referrers/{}", world.served(), image.digest())).is(200);
    let listed: Value = serde_json::from_slice(&listed.body).expect("an index");
    assert_eq!(listed["manifests"].as_array().map(Vec::len), Some(4), "each bundle is a referrer of its own: {listed}");
}

#[test]
fn a_registry_lists_bundles_by_its_api_or_under_the_fallback_tag() {
    for has_api in [true, false] {
        let registry = if has_api { FakeRegistry::start_with_referrers() } else { FakeRegistry::start() };
        let home = Home::new();
        let _daemon = home.start();
        let image = Image::small("listed");
        registry.put(APP, "1.0", &image);
        // What somebody else has listed stays as it is, fields included that nobody here knows.
        let foreign = "sha256:0000000000000000000000000000000000000000000000000000000000000001";
        let last = format!("sha256:{}", "f".repeat(64));
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 7, "digest": last, "unknown": [1]},
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 7, "digest": foreign},
        ], "annotations": {"kept": "yes"}});
        let reference = registry.reference(APP, "1.0");
        home.larder(["pull", &reference]).exits(0);
        if !has_api {
            let (kind, bytes) = ("application/vnd.oci.image.index.v1+json", serde_json::to_vec(&index).expect("JSON"));
            registry.put_manifest(APP, Some(&image.digest_tag("")), kind, bytes.into());
        }
        with_key(&home, "sign", "p256", &["--format", "bundle", "--push", &reference]).exits(0);
        let listed = referrers(&registry, &image, has_api);
        let entries = listed["manifests"].as_array().expect("entries");
        let ours = entries.iter().find(|entry| entry["artifactType"] == BUNDLE).expect("ours");
        if !has_api {
            assert_eq!(ours["annotations"]["dev.sigstore.bundle.predicateType"], "https://sigstore.dev/cosign/sign/v1");
            assert_eq!(ours["annotations"]["dev.sigstore.bundle.content"], "dsse-envelope");
            assert_eq!(entries.first().expect("entries")["digest"], foreign, "sorted by digest");
            let kept = entries.iter().find(|entry| entry["digest"] == last.as_str()).expect("kept");
            assert_eq!(kept["unknown"], json!([1]));
            assert_eq!((entries.len(), &listed["annotations"]["kept"]), (3, &json!("yes")));
        }
        // Once more changes nothing there.
        home.larder(["push", "--signatures", &reference]).exits(0);
        assert_eq!(referrers(&registry, &image, has_api), listed);
    }
}

#[test]
fn an_index_is_signed_with_what_is_held_of_it() {
    let world = World::start();
    let foreign = if host_architecture() == "arm64" { "amd64" } else { "arm64" };
    let ours = Image::new("ours").architecture(host_architecture()).layer("a").build();
    let theirs = Image::new("theirs").architecture(foreign).layer("b").build();
    let index = Index::new().child(&ours, "linux", host_architecture()).child(&theirs, "linux", foreign).build();
    world.registry.put(APP, "1.0", &index);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let signed = with_key(&world.home, "sign", "p256", &["--output", "json", "--recursive", &reference]).exits(0);
    let digests: Vec<String> = serde_json::Deserializer::from_str(&signed.stdout)
        .into_iter::<Value>()
        .map(|one| one.expect("JSON")["digest"].as_str().expect("a digest").to_owned())
        .collect();
    assert_eq!(digests, [index.digest().to_string(), ours.digest().to_string()]);
    // The whole cannot be pushed, for a part was left out; what is attached can.
    let target = world.reference("1.0");
    world.home.larder(["push", &target]).exits(1).says(&["--platform all"]);
    world.home.larder(["push", "--signatures", &target]).exits(0);
    for (content, there) in [(&index, true), (&ours, true), (&theirs, false)] {
        assert_eq!(world.registry.tag(APP, &content.digest_tag(".sig")).is_some(), there);
    }
    let elsewhere = FakeRegistry::start();
    let destination = elsewhere.reference(APP, "1.0");
    let refused = world.home.larder(["push", "--signatures", &target, &destination]).exits(1);
    refused.says(&["does not hold", "without `--signatures`"]);
    assert_eq!(elsewhere.tag(APP, &ours.digest_tag(".sig")), None, "nothing is hung on what is not there");
}

#[test]
fn an_sbom_is_signed_in_two_steps() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    let sbom = Image::new("sbom").layer("SPDXVersion: SPDX-2.3").build_with("text/spdx");
    world.registry.put(APP, &image.digest_tag(".sbom"), &sbom);
    world.upstream("2.0", &[]);
    world.pull("1.0");
    world.pull("2.0");
    let signed = with_key(&world.home, "sign", "p256", &["--attachment", "sbom", &world.reference("1.0")]).exits(0);
    signed.says(&[&sbom.digest().to_string()[7..19]]);
    world.home.larder(["push", "--signatures", &world.reference("1.0")]).exits(0);
    assert!(world.registry.tag(APP, &sbom.digest_tag(".sig")).is_some(), "the SBOM is signed");
    assert_eq!(world.registry.tag(APP, &image.digest_tag(".sig")), None, "and not the image");
    let none = with_key(&world.home, "sign", "p256", &["--attachment", "sbom", &world.reference("2.0")]).exits(1);
    none.is_a_clear_error("no SBOM is attached");
    // Nothing else that is attached can be signed.
    let signature = world.registry.tag(APP, &sbom.digest_tag(".sig")).expect("a digest").parse().expect("a digest");
    let reference = world.registry.at(APP, &signature);
    with_key(&world.home, "sign", "p256", &[&reference]).exits(1).is_a_clear_error("no subject");
}

#[test]
fn flags_of_cosign_are_taken() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let signed = with_key(
        &world.home,
        "sign",
        "p256",
        &["--yes", "--tlog-upload=false", "--new-bundle-format", "--use-signing-config=false", &reference],
    );
    signed.exits(0).says(&["is a tag, which may name another image tomorrow", "the bundle is in the referrer"]);
    for (words, noun) in [(&["-a", "env"][..], "KEY=VALUE"), (&["--format", "cbor"], "cbor"), (&[], "REF")] {
        let rest: Vec<&str> =
            words.iter().copied().chain(Some(reference.as_str()).filter(|_| !words.is_empty())).collect();
        with_key(&world.home, "sign", "p256", &rest).exits(2).says(&[noun]);
    }
}

#[test]
fn keys_of_other_tools_are_imported_and_sign() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    let (plain, prefix) = (key_file("ec-P-384.pem"), world.home.beside("mine"));
    let arguments = ["key", "import", "--key", plain.to_str().expect("UTF-8"), "--output-key-prefix"];
    let arguments = [&arguments[..], &[prefix.to_str().expect("UTF-8")]].concat();
    world.home.invoke(&arguments).env("COSIGN_PASSWORD", "new").run().exits(0);
    let (private, public) = (world.home.beside("mine.key"), world.home.beside("mine.pub"));
    assert_eq!(fs::read_to_string(&public).expect("a key"), harness::fixtures::public_key("imp-ec-P-384.pub"));
    let sign = ["sign", "--key", private.to_str().expect("UTF-8"), &world.reference("1.0")];
    world.home.invoke(sign).env("COSIGN_PASSWORD", "new").run().exits(0);
    // The public half once more, by cosign's name for it.
    let print = ["public-key", "--key", private.to_str().expect("UTF-8")];
    let printed = world.home.invoke(print).env("COSIGN_PASSWORD", "new").run().exits(0);
    assert_eq!(printed.stdout, harness::fixtures::public_key("imp-ec-P-384.pub"));

    // Not over what is there, but with consent; nor a half of it.
    let before = fs::read(&private).expect("a key");
    world.home.invoke(&arguments).env("COSIGN_PASSWORD", "x").run().exits(1).is_a_clear_error("mine.key");
    fs::remove_file(&private).expect("removed");
    world.home.invoke(&arguments).env("COSIGN_PASSWORD", "x").run().exits(1).is_a_clear_error("mine.pub");
    assert!(!private.exists(), "not half a pair");
    world.home.invoke([&arguments[..], &["--yes"]].concat()).env("COSIGN_PASSWORD", "x").run().exits(0);
    assert_ne!(fs::read(&private).expect("a key"), before);
}

#[test]
fn keys_that_cannot_be_written_or_read_leave_nothing_behind() {
    let home = Home::new();
    let there = |name: &str| {
        let entries = fs::read_dir(home.beside("")).expect("a folder");
        entries.filter(|entry| entry.as_ref().expect("an entry").file_name().to_string_lossy().contains(name)).count()
    };
    let run = |words: &[&str]| home.invoke(words).env("COSIGN_PASSWORD", "larder").run();
    for prefix in ["none/half", "/proc/half"] {
        let prefix = home.beside(prefix);
        let prefix = prefix.to_str().expect("UTF-8");
        run(&["key", "generate", "--output-key-prefix", prefix]).exits(1).is_a_clear_error("half.key");
    }
    // The public half's place is taken by a folder: there is no private half then either.
    fs::create_dir(home.beside("half.pub")).expect("a folder");
    let prefix = home.beside("half");
    let arguments = ["key", "generate", "--yes", "--output-key-prefix", prefix.to_str().expect("UTF-8")];
    run(&arguments).exits(1).is_a_clear_error("half.pub");
    assert_eq!(there("half"), 1, "the folder alone");
    let (public, sealed) = (key_file("p256.pub"), key_file("p256.key"));
    for (file, words) in [(&public, "is a public key"), (&sealed, "is encrypted by cosign already")] {
        let file = file.to_str().expect("UTF-8");
        run(&["key", "import", "--key", file]).exits(1).says(&[words]);
    }
    let wrong = ["key", "public", "--key", sealed.to_str().expect("UTF-8")];
    let wrong = home.invoke(wrong).env("COSIGN_PASSWORD", "wrong").run().exits(1).is_a_clear_error("p256.key");
    assert_eq!(wrong.stderr.lines().filter(|line| line.contains("password is wrong")).count(), 1);
}

#[test]
fn an_interrupted_write_leaves_no_key() {
    let home = Home::new();
    let folder = home.beside("keys");
    fs::create_dir(&folder).expect("a folder");
    // A process may not make any file longer than nothing: the kernel ends it in the middle of the first.
    let script = "ulimit -f 0; exec \"$0\" key generate --output-key-prefix \"$1\"";
    let status = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(harness::binaries().larder.as_os_str())
        .arg(folder.join("cut"))
        .env_clear()
        .env("COSIGN_PASSWORD", "larder")
        .env("LARDER_HOME", home.path())
        .stderr(std::process::Stdio::null())
        .status()
        .expect("sh can be run");
    assert!(!status.success());
    for name in ["cut.key", "cut.pub"] {
        assert!(!folder.join(name).exists(), "{name}");
    }
}
