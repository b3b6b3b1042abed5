//! Attestations in both formats.

use std::fs;

use harness::{FakeRegistry, Home};
use larder_proto::v1::{AttachSignatureRequest, PrepareSignatureRequest, SignatureFormat};
use serde_json::{Value, json};

use crate::sign_formats::{blob, checked, with_key};
use crate::world::{APP, World};

fn predicate(home: &Home, text: &str) -> String {
    home.write_beside("predicate.json", text).display().to_string()
}

#[test]
fn what_is_attested_is_pushed_in_both_formats() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let kept = "{ \"big\": 123456789012345678901234567890, \"b\": \"<&>\" }";
    let file = predicate(&world.home, kept);
    for kind in ["custom", "spdxjson", "https://example.org/review?<x>"] {
        let rest = ["--type", kind, "--predicate", &file, "--format", "both", "--push", &reference];
        with_key(&world.home, "attest", "imp-ec-P-384", &rest).exits(0).says(&["attested", ".att"]);
    }
    let http = harness::Http::new(&world.registry.host());
    let manifest = |reference: &str| -> Value {
        serde_json::from_slice(&http.manifest(APP, reference).is(200).body).expect("a manifest")
    };
    let classic = manifest(&image.digest_tag(".att"));
    let layers = classic["layers"].as_array().expect("layers");
    let types: Vec<_> = layers.iter().map(|layer| layer["annotations"]["predicateType"].as_str()).collect();
    let (custom, spdx, own) =
        ("https://cosign.sigstore.dev/attestation/v1", "https://spdx.dev/Document", "https://example.org/review?<x>");
    assert_eq!(types, [Some(custom), Some(spdx), Some(own)]);
    assert_eq!(layers[0]["annotations"]["dev.cosignproject.cosign/signature"], "");
    let referrers = manifest(&image.digest_tag(""));
    let bundles = referrers["manifests"].as_array().expect("referrers");
    assert_eq!(bundles.len(), 3);
    let mut statements: Vec<Value> = Vec::new();
    for layer in layers {
        let envelope: Value = serde_json::from_slice(&blob(&http, APP, layer)).expect("an envelope");
        statements.push(checked(&envelope, "imp-ec-P-384"));
    }
    for referrer in bundles {
        let manifest = manifest(referrer["digest"].as_str().expect("a digest"));
        let bundle: Value = serde_json::from_slice(&blob(&http, APP, &manifest["layers"][0])).expect("a bundle");
        let statement = checked(&bundle["dsseEnvelope"], "imp-ec-P-384");
        assert_eq!(manifest["annotations"]["dev.sigstore.bundle.predicateType"], statement["predicateType"]);
        statements.push(statement);
    }
    for statement in &statements {
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v0.1");
        let subject =
            json!([{"name": format!("{}/{APP}", world.registry.host()), "digest": {"sha256": image.digest().hex()}}]);
        assert_eq!(statement["subject"], subject);
        if statement["predicateType"] == custom {
            assert_eq!(statement["predicate"]["Data"], kept);
        } else {
            assert_eq!(statement["predicate"]["b"], "<&>");
        }
    }
    // Once more is no second one, but for the custom one, which holds the time.
    let rest = ["--type", "spdxjson", "--predicate", &file, "--format", "both", &reference];
    let again = with_key(&world.home, "attest", "imp-ec-P-384", &rest).exits(0);
    assert_eq!(again.stderr.matches("already; nothing was changed").count(), 2, "{}", again.stderr);
}

#[test]
fn bad_predicates_are_one_clear_error() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let attest = |kind: &str, file: &str| {
        with_key(&world.home, "attest", "p256", &["--type", kind, "--predicate", file, &reference])
    };
    for (kind, text, words) in [
        ("spdxjson", "no JSON", "no JSON object"),
        ("cyclonedx", "[]", "no JSON object"),
        ("cyclonedx", "{} {}", "no JSON object"),
        ("vuln", "{\"scanner\":{}}", "invocation"),
        ("slsaprovenance", "{}", "builder"),
    ] {
        attest(kind, &predicate(&world.home, text)).exits(1).is_a_clear_error("predicate.json").says(&[words]);
    }
    let long = world.home.beside("long.json");
    fs::File::create(&long).expect("a file").set_len((16 << 20) + 1).expect("a long file");
    attest("spdxjson", long.to_str().expect("UTF-8")).exits(1).is_a_clear_error("long.json").says(&["16 MiB"]);
    attest("spdxjson", "none.json").exits(1).is_a_clear_error("none.json");
    attest("spdx json", &predicate(&world.home, "{}")).exits(2).says(&["URI"]);
    // In its place the client would sign, and the daemon store, what looks like an image's signature.
    let sign = attest("https://sigstore.dev/cosign/sign/v1", &predicate(&world.home, "{}")).exits(1);
    sign.says(&["the predicate type of signatures"]);
    assert_eq!(world.registry.tag(APP, "none"), None);
}

#[test]
fn a_large_predicate_goes_through() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let file = predicate(&world.home, &format!("{{\"a\":\"{}\"}}", "x".repeat(9 << 20)));
    let rest = ["--type", "cyclonedx", "--predicate", &file, "--format", "both", &reference];
    with_key(&world.home, "attest", "p256", &rest).exits(0);
    let target = FakeRegistry::start();
    world.home.larder(["push", &reference, &target.reference(APP, "1.0")]).exits(0);
    assert!(target.tag(APP, &image.digest_tag(".att")).is_some());
}

#[test]
fn the_daemon_stores_only_what_was_signed_about_the_digest() {
    let world = World::start();
    let (image, other) = (world.upstream("1.0", &[]), world.upstream("2.0", &[]));
    world.pull("1.0");
    world.pull("2.0");
    let (mut signatures, signer) = (world.daemon.client().signatures(), harness::Signer::new("api"));
    let mut prepare = |digest: &larder_core::Digest, predicate_type: &str, format: SignatureFormat| {
        let request = PrepareSignatureRequest {
            reference: world.registry.at(APP, digest),
            predicate_type: predicate_type.to_owned(),
            predicate: b"{}".as_slice().into(),
            format: format.into(),
            ..Default::default()
        };
        harness::block(signatures.prepare_signature(request)).map(|answer| answer.into_inner())
    };
    let about_other = prepare(&other.digest(), "https://x", SignatureFormat::Bundle).expect("prepared").payload;
    let good = prepare(&image.digest(), "https://x", SignatureFormat::Bundle).expect("prepared");
    let signing = prepare(&image.digest(), "", SignatureFormat::Bundle).expect("prepared").payload;
    let sign_type = prepare(&image.digest(), "https://sigstore.dev/cosign/sign/v1", SignatureFormat::Legacy);
    assert_eq!(sign_type.expect_err("refused").code(), tonic::Code::InvalidArgument);
    let message = |payload: &[u8]| larder_core::signature::dsse::pae("application/vnd.in-toto+json", payload);
    let mut signatures = world.daemon.client().signatures();
    let mut attach = |payload: &[u8], message: &[u8], format: i32| {
        let request = AttachSignatureRequest {
            repository: good.repository.clone(),
            digest: good.digest.clone(),
            payload: payload.to_vec().into(),
            signature: signer.sign_bytes(message).into(),
            public_key: signer.public_pem(),
            format,
            ..AttachSignatureRequest::default()
        };
        harness::block(signatures.attach_signature(request)).map(|answer| answer.into_inner())
    };
    let (legacy, bundle) = (SignatureFormat::Legacy.into(), SignatureFormat::Bundle.into());
    for (what, payload, message, format) in [
        ("about another image", &about_other[..], message(&about_other), bundle),
        ("signed as it is, without its encoding", &good.payload, good.payload.to_vec(), bundle),
        ("signed over other bytes", &good.payload, message(b"{}"), legacy),
        ("a signature's statement as a classic attestation", &signing, message(&signing), legacy),
        ("no statement", b"{}", message(b"{}"), bundle),
        ("no known format", &good.payload, message(&good.payload), 9),
    ] {
        let refused = attach(payload, &message, format).expect_err(what);
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{what}: {refused:?}");
    }
    let listed = world.daemon.http().get(&format!("/v2/{}/referrers/{}", world.served(), image.digest())).is(200);
    assert!(listed.text().contains("\"manifests\":[]"), "nothing was stored: {}", listed.text());
    assert!(attach(&good.payload, &message(&good.payload), bundle).expect("stored").added);
    assert!(attach(&good.payload, &message(&good.payload), legacy).expect("stored").added);
}
