//! cosign's habits: layouts verified where they lie, keys in variables, chains in the place of a trusted root, names, copies,
//! and what was signed elsewhere.

use std::fs;
use std::path::Path;

use harness::fixtures::{Layout, cosign, repositories};
use harness::{Home, Image, Signer};
use serde_json::Value;

use super::world::World;

fn key(name: &str) -> String {
    cosign().join("keys").join(name).display().to_string()
}

fn layout(repository: &str) -> String {
    cosign().join("layouts").join(repository).display().to_string()
}

/// Copies a fixture's layout, to be changed.
fn copied(home: &Home, repository: &str) -> String {
    let to = home.beside(&format!("layout-of-{repository}"));
    let from = cosign().join("layouts").join(repository);
    fs::create_dir_all(to.join("blobs/sha256")).expect("folders");
    for file in ["index.json", "oci-layout"] {
        fs::copy(from.join(file), to.join(file)).expect("copied");
    }
    for blob in harness::home::files(&from.join("blobs/sha256")) {
        fs::copy(&blob, to.join("blobs/sha256").join(blob.file_name().expect("a name"))).expect("copied");
    }
    to.display().to_string()
}

/// Every row of `expected.json` gets the truth from the layout, as it does from a registry; no daemon is started for it.
#[test]
fn a_layout_is_verified_where_it_lies() {
    let home = Home::new();
    let text = fs::read(cosign().join("expected.json")).expect("expected.json");
    let expected: Value = serde_json::from_slice(&text).expect("JSON");
    let mut rows = 0;
    for case in expected["cases"].as_array().expect("cases") {
        let words: Vec<&str> = case["args"].as_array().expect("args").iter().filter_map(Value::as_str).collect();
        if words.contains(&"--attachment") {
            continue;
        }
        let reference = case["ref"].as_str().expect("a reference");
        let (repository, tag) = reference.split_once(':').expect("a tag");
        let accepted = ["cosign2", "cosign3"].iter().any(|version| case[version]["exit"] == 0);
        let own_curve = ["ec-p-384", "ec-p-521", "ed25519"].iter().any(|name| reference.ends_with(name))
            && !words.contains(&"p256.pub");
        let truth = match accepted || own_curve {
            true => 0,
            false if reference == "single:2.0.0" => 10,
            false => 12,
        };
        let words = words.iter().map(|word| if word.ends_with(".pub") { key(word) } else { (*word).to_owned() });
        let place = format!("{}:{tag}", layout(repository));
        let output = home.larder(words.chain(["--local-image".to_owned(), place]));
        assert_eq!(output.code, truth, "{reference} {:?}: {}", case["args"], output.stderr);
        rows += 1;
    }
    assert_eq!(rows, 67);
    assert!(!home.path().exists(), "a home was made");
}

#[test]
fn a_layout_says_what_is_wrong_with_it() {
    let home = Home::new();
    let (own, single) = (key("p256.pub"), layout("single"));
    let verify = |place: &str| home.larder(["verify", "--key", &own, "--local-image", place]);
    verify(&single).exits(1).says(&["holds 3 images", ":TAG"]);
    verify(&format!("{single}:9")).exits(11).says(&["no 9"]);
    verify("no/such/folder").exits(11);
    home.larder(["verify", "--local-image", &single]).exits(1).says(&["--local-image needs --key"]);
    home.larder(["verify", "--key", &own, "--local-image", "--attachment", "sbom", &single]).exits(1);
    let tag = format!("{single}:1.0.0");
    home.larder(["verify", "--key", &own, "--local-image=false", &tag]).exits(1);

    // A byte of the image's manifest, and one of the signed payload.
    let expected: Value =
        serde_json::from_slice(&fs::read(Path::new(&single).join("index.json")).expect("index.json")).expect("JSON");
    let entry = |name: &str| {
        let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == name;
        let entry = expected["manifests"].as_array().and_then(|all| all.iter().find(named)).expect("an entry");
        entry["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest").to_owned()
    };
    let image = entry("1.0.0");
    let signatures = entry(&format!("sha256-{image}.sig"));
    let flipped = copied(&home, "single");
    let blobs = Path::new(&flipped).join("blobs/sha256");
    let manifest: Value =
        serde_json::from_slice(&fs::read(blobs.join(&signatures)).expect("a manifest")).expect("JSON");
    let payload = manifest["layers"][0]["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    let payload = blobs.join(payload.expect("a payload"));
    let good = fs::read(&payload).expect("a payload");
    let mut bad = good.clone();
    bad[20] ^= 1;
    fs::write(&payload, &bad).expect("written");
    verify(&format!("{flipped}:1.0.0")).exits(12);
    fs::write(&payload, &good).expect("written");
    verify(&format!("{flipped}:1.0.0")).exits(0);
    let mut bytes = fs::read(blobs.join(&image)).expect("a manifest");
    bytes.push(b' ');
    fs::write(blobs.join(&image), bytes).expect("written");
    verify(&format!("{flipped}:1.0.0")).exits(1).says(&[&image]);
}

#[test]
fn a_layout_of_an_identitys_signatures() {
    let home = Home::new();
    let fixture = |name: &str| cosign().join("keyless").join(name).display().to_string();
    let verify = |image: &str, identity: &str| {
        home.larder([
            "verify",
            "--trusted-root",
            &fixture("roots/good.json"),
            "--certificate-identity",
            identity,
            "--certificate-oidc-issuer",
            "http://127.0.0.1:8400",
            "--local-image",
            &format!("{}:v1", fixture(&format!("layouts/{image}"))),
        ])
    };
    for image in ["image-rekor1-tsa", "image-legacy"] {
        verify(image, "alice@example.com").exits(0);
        verify(image, "mallory@example.com").exits(12).says(&["identity"]);
    }
}

#[test]
fn a_key_may_be_in_a_variable() {
    let world = World::start();
    let signer = Signer::new("one");
    world.upstream("1.0", &[&signer]);
    let reference = world.reference("1.0");
    let verify = |place: &str| {
        let with = world.home.invoke(["verify", "--key", place, &reference]);
        with.env("SIGNER", signer.public_pem()).env("OTHER", Signer::new("other").public_pem()).run()
    };
    verify("env://SIGNER").exits(0);
    verify("env://OTHER").exits(12);
    verify("env://ABSENT").exits(1).says(&["env://ABSENT", "no such variable"]);
    for service in ["awskms://host/key", "k8s://namespace/name", "https://example.org/cosign.pub", "pkcs11:token=x"] {
        verify(service).exits(1).says(&[service, "hint", "cosign.pub"]);
    }
    let blob = world.home.write_beside("blob", "blob").display().to_string();
    let output = world.home.larder(["verify-blob", "--key", "awskms://host/key", "--signature", "c2ln", &blob]);
    output.exits(1).says(&["awskms://host/key"]);
}

#[test]
fn certificates_stand_in_for_a_trusted_root() {
    let world = World::start();
    let folder = cosign().join("keyless");
    for name in ["image-legacy", "image-legacy-tsa"] {
        Layout::at(folder.join("layouts").join(name)).load_into(&world.registry, name);
    }
    let file = |name: &str| folder.join("keys").join(name).display().to_string();
    let verify = |image: &str, words: &[&str]| {
        let who = ["--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", "http://127.0.0.1:8400"];
        let reference = world.registry.reference(image, "v1");
        let reference = reference.as_str();
        let words = ["verify"].iter().chain(&who).chain(words).chain([&reference]);
        let invocation = world.home.invoke(words).env("SIGSTORE_REKOR_PUBLIC_KEY", file("rekor1.pub"));
        invocation.env("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", file("ctlog.pub")).run()
    };
    let (chain, root, issuer) = (file("fulcio-chain.pem"), file("fulcio-root.crt"), file("fulcio-ca.crt"));
    let (stamps, foreign) = (file("tsa-chain.pem"), file("tsa-chain.pem"));
    verify("image-legacy", &["--certificate-chain", &chain]).exits(0);
    verify("image-legacy", &["--ca-roots", &root, "--ca-intermediates", &issuer]).exits(0);
    verify("image-legacy", &["--certificate-chain", &foreign]).exits(12).says(&["certificate"]);
    verify("image-legacy", &["--ca-intermediates", &issuer]).exits(1);
    // A timestamp authority asks for its timestamp.
    let with_stamps = ["--certificate-chain", &chain, "--timestamp-certificate-chain", &stamps];
    verify("image-legacy-tsa", &with_stamps).exits(0);
    verify("image-legacy", &with_stamps).exits(12).says(&["timestamp"]);
    verify("image-legacy-tsa", &["--certificate-chain", &chain, "--timestamp-certificate-chain", &chain]).exits(12);
    for (flag, file) in [("--certificate-chain", &chain), ("--ca-roots", &root)] {
        let reference = world.registry.reference("image-legacy", "v1");
        let beside = ["verify", flag, file.as_str(), "--key", &key("p256.pub"), &reference];
        world.home.larder(beside).exits(1).says(&["cannot be used with"]);
        world.home.larder(["verify", flag, file.as_str(), &reference]).exits(1).says(&[flag, "needs --key"]);
    }
}

#[test]
fn what_tightens_a_check_is_never_passed_over() {
    let home = Home::new();
    for verb in ["verify", "verify-attestation"] {
        for flag in ["--sct", "--certificate", "--sk", "--slot", "--attachment-tag-prefix", "--payload", "--signature"]
        {
            let output = home.larder([verb, flag, "x", "--key", &key("p256.pub"), "127.0.0.1:1/a/b:1"]);
            output.exits(1).says(&[&format!("{flag} is not taken"), "hint"]);
        }
    }
    for flag in ["--replace", "--no-upload", "--attachment-tag-prefix"] {
        home.larder(["attest", flag, "x", "127.0.0.1:1/a/b:1"]).exits(2).says(&[&format!("{flag} is not taken")]);
    }
}

#[test]
fn references_are_named_as_cosign_names_them() {
    let world = World::start();
    let own = key("p256.pub");
    world.home.larder(["load", &layout("single"), "--as", "docker.io/library/single"]).exits(0);
    for (given, expected) in [
        ("single:1.1.0", "index.docker.io/library/single:1.1.0".to_owned()),
        ("docker.io/library/single:1.1.0", "index.docker.io/library/single:1.1.0".to_owned()),
    ] {
        let output = world.home.larder(["verify", "--key", &own, given]).exits(0);
        assert!(output.stderr.contains(&format!("Verification for {expected} --\n")), "{}", output.stderr);
        let printed: Value = serde_json::from_str(output.stdout.trim()).expect("JSON");
        assert_eq!(printed[0]["critical"]["identity"]["docker-reference"], expected);
    }
    // As text, what was signed, one a line; as JSON, one line and an empty one before it.
    let words = ["verify", "--key", &own, "single:1.0.0"];
    let text = world.home.larder(words.iter().chain(&["-o", "text"])).exits(0).stdout;
    let json = world.home.larder(words).exits(0).stdout;
    assert!(json.starts_with("\n[{") && json.lines().count() == 2, "{json}");
    assert_eq!(world.home.larder(words.iter().chain(&["-o", "json"])).exits(0).stdout, json);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["critical"]["type"], "cosign container image signature");
    assert_eq!(serde_json::from_str::<Value>(json.trim()).expect("JSON"), Value::Array(lines));
}

#[test]
fn what_is_not_held_is_triangulated_at_its_registry() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    let place = |reference: &str| world.home.larder(["triangulate", reference]);
    let expected = format!("{}/store/app:{}\n", world.registry.host(), image.digest_tag(".sig"));
    assert_eq!(place(&world.reference("1.0")).exits(0).stdout, expected);
    assert_eq!(place(&format!("{}/store/app@{}", world.registry.host(), image.digest())).exits(0).stdout, expected);
    place(&world.reference("none")).exits(1).says(&["none", "hint"]);
    place("localhost/team/app:1").exits(1).says(&["hint"]);
    assert!(world.home.larder(["ls"]).exits(0).stdout.is_empty(), "something is held");
    // What is attached is only here once it is held, and the way there is told.
    world.home.larder(["download", "signature", &world.reference("1.0")]).exits(1).says(&["larder pull"]);
}

#[test]
fn a_copy_takes_everything_along_and_overwrites_nothing_unasked() {
    let world = World::start();
    Layout::open("single").load_into(&world.registry, "single");
    let (source, own) = (world.registry.reference("single", "1.0.0"), key("p256.pub"));
    let copy = world.registry.reference("mirror/single", "1.0.0");
    world.home.larder(["copy", &source, &copy]).exits(0);
    world.home.larder(["verify", "--key", &own, &copy]).exits(0);
    world.home.larder(["verify", "--key", &own, "--attachment", "sbom", &copy]).exits(0);
    world.home.larder(["copy", &source, &copy]).exits(0);
    let other = world.registry.reference("single", "2.0.0");
    world.home.larder(["copy", &other, &copy]).exits(1).says(&["is another image", "--force"]);
    world.home.larder(["copy", "-f", &other, &copy]).exits(0);
    world.home.larder(["verify", "--key", &own, &copy]).exits(10);
    world.home.larder(["copy", &source, "localhost/a/b:1"]).exits(2).says(&["larder tag"]);
    world.home.larder(["copy", "--only", "sig", &source, &copy]).exits(2).says(&["--only is not taken"]);
}

#[test]
fn what_was_signed_elsewhere_is_attached_and_judged() {
    let world = World::start();
    Layout::open("single").load_into(&world.registry, "single");
    let (image, own) = (world.registry.reference("single", "1.0.0"), key("p256.pub"));
    world.home.larder(["pull", &image]).exits(0);
    let lines = world.home.larder(["download", "signature", &image]).exits(0).stdout;
    let line: Value = serde_json::from_str(lines.lines().next().expect("a signature")).expect("JSON");
    let signature = line["Base64Signature"].as_str().expect("a signature").to_owned();
    let payload = world.home.larder(["verify", "--key", &own, "-o", "text", &image]).exits(0).stdout;
    let payload = world.home.write_beside("payload.json", payload.trim_end()).display().to_string();
    let envelopes = world.home.larder(["download", "attestation", &image]).exits(0).stdout;
    let envelopes = world.home.write_beside("envelopes.json", envelopes).display().to_string();

    // The same image in a world where nothing is attached to it.
    let bare = World::start();
    let layout = copied(&bare.home, "single");
    let index = Path::new(&layout).join("index.json");
    let mut listed: Value = serde_json::from_slice(&fs::read(&index).expect("index.json")).expect("JSON");
    let is_it = |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"] == "1.0.0";
    listed["manifests"].as_array_mut().expect("entries").retain(is_it);
    fs::write(&index, listed.to_string()).expect("index.json");
    bare.home.larder(["load", &layout, "--as", "localhost/bare/app:1"]).exits(0);
    bare.home.larder(["verify", "--key", &own, "localhost/bare/app:1"]).exits(10);
    let clean = Image::small("something else");
    bare.registry.put("store/app", "1", &clean);
    bare.pull("1");
    let other = bare.reference("1");
    let attach = |reference: &str, words: &[&str]| bare.home.larder(["attach"].iter().chain(words).chain([&reference]));
    bare.home.larder(["verify", "--key", &own, &other]).exits(10);
    attach(&other, &["signature", "--signature", &signature, "--payload", &payload]).exits(1).says(&["does not name"]);
    attach(&other, &["attestation", "--attestation", &envelopes]).exits(1).says(&["does not name"]);
    attach(&other, &["signature", "--signature", "no-such-file"]).exits(1).says(&["no signature in base64"]);
    // Without a payload it is over the one that would be signed here: this is no signature over that, and does not count.
    attach(&other, &["signature", "--signature", &signature]).exits(0);
    bare.home.larder(["verify", "--key", &own, &other]).exits(12);

    let target = "localhost/bare/app:1";
    let words = ["signature", "--signature", &signature, "--payload", &payload];
    attach(target, &words).exits(0).says(&["attached the signature to localhost/bare/app@"]);
    attach(target, &words).exits(0).says(&["already"]);
    bare.home.larder(["verify", "--key", &own, "-a", "env=prod", target]).exits(0);
    attach(target, &["attestation", "--attestation", &envelopes]).exits(0);
    bare.home.larder(["verify-attestation", "--key", &own, "--type", "spdxjson", target]).exits(0);
    bare.home.larder(["verify-attestation", "--key", &key("other.pub"), "--type", "spdxjson", target]).exits(12);
}

#[test]
fn layouts_of_every_fixture_can_be_opened() {
    let home = Home::new();
    for repository in repositories() {
        for tag in Layout::open(&repository).subjects() {
            let place = format!("{}:{tag}", layout(&repository));
            let output = home.larder(["verify", "--key", &key("nopass.pub"), "--local-image", &place]);
            assert!(
                output.code == 12 || output.code == 10 || tag == "nopass",
                "{place}: {} {}",
                output.code,
                output.stderr
            );
        }
    }
}
