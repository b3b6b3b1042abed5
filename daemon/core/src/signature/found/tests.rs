use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::check::check;
use crate::key::PublicKey;

pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
pub(crate) const SPDX: &str = "https://spdx.dev/Document";

fn manifest(layers: &[(&str, &[u8])], artifact_type: Option<&str>) -> Manifest {
    let layers: Vec<Value> = layers
        .iter()
        .map(|(media_type, bytes)| json!({"mediaType": media_type, "size": bytes.len(), "digest": Digest::of(bytes)}))
        .collect();
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": Digest::of(b"{}")});
    let mut document = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": empty, "layers": layers});
    if let Some(artifact_type) = artifact_type {
        document["artifactType"] = json!(artifact_type);
    }
    Manifest::parse(document.to_string().into(), None).expect("manifest")
}

pub(crate) fn statement(predicate_type: &str, digests: &[Digest]) -> Vec<u8> {
    let subjects: Vec<Value> = digests.iter().map(|digest| json!({"digest": {"sha256": digest.hex()}})).collect();
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": subjects,
        "predicateType": predicate_type, "predicate": {}});
    statement.to_string().into_bytes()
}

/// The OpenSSH fingerprint of [`key`].
const FINGERPRINT: &str = "SHA256:ZV2bFitY8/5t39DITy20N/r8HKhvJ0slnPrrTbvzAcQ";

fn secret() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[7; 32]).expect("a key")
}

pub(crate) fn key() -> PublicKey {
    use p256::pkcs8::{EncodePublicKey as _, LineEnding};
    let public = p256::PublicKey::from(secret().verifying_key());
    PublicKey::from_pem(public.to_public_key_pem(LineEnding::LF).expect("PEM").as_bytes()).expect("a public key")
}

pub(crate) fn envelope(payload: &[u8]) -> Value {
    use p256::ecdsa::signature::Signer as _;
    let signature: p256::ecdsa::Signature = secret().sign(&pae(IN_TOTO, payload));
    json!({"payload": STANDARD.encode(payload), "payloadType": IN_TOTO,
        "signatures": [{"sig": STANDARD.encode(signature.to_der())}]})
}

pub(crate) fn bundle(material: &Value, payload: &[u8]) -> Vec<u8> {
    let bundle = json!({"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope(payload)});
    bundle.to_string().into_bytes()
}

pub(crate) fn by_key() -> Value {
    json!({"publicKey": {"hint": "x"}})
}

pub(crate) fn read_one(media_type: &str, bytes: &[u8]) -> Vec<FoundSignature> {
    let held = Bytes::copy_from_slice(bytes);
    read(&manifest(&[(media_type, bytes)], None), |_| Some(held.clone()))
}

#[test]
fn a_bundle_signs_and_an_attestation_attests() {
    let image = Digest::of(b"image");
    let signs = statement(COSIGN_SIGN, &[image]);
    let attests = statement(SPDX, &[image]);
    for (media_type, bytes, says) in [
        (BUNDLE, bundle(&by_key(), &signs), Says::Signed),
        (BUNDLE, bundle(&by_key(), &attests), Says::Attested(SPDX.into())),
        (DSSE_ENVELOPE, envelope(&attests).to_string().into_bytes(), Says::Attested(SPDX.into())),
        // In an old attestation image nothing is a signature, whatever it says of itself.
        (DSSE_ENVELOPE, envelope(&signs).to_string().into_bytes(), Says::Attested(COSIGN_SIGN.into())),
    ] {
        let found = read_one(media_type, &bytes);
        let [found] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((found.names, &found.says, &found.fault), (Some(image), &says, &None));
        assert!(check(found, &key()).is_some());
    }
}

#[test]
fn a_certificate_in_a_bundle_is_no_business_of_a_bare_key() {
    let signs = statement(COSIGN_SIGN, &[Digest::of(b"image")]);
    let found = read_one(BUNDLE, &bundle(&json!({"certificate": {"rawBytes": "MAA="}}), &signs));
    assert_eq!((found.len(), found[0].by_key), (1, false), "{found:?}");
    assert_eq!(check(&found[0], &key()), None);
}

/// cosign passes over a DSSE signature by another key's name, wherever the envelope is found.
#[test]
fn a_key_id_is_the_keys_own_or_the_signature_is_nobodys() {
    let attests = statement(SPDX, &[Digest::of(b"image")]);
    let named = |key_id: Value| {
        let mut named = envelope(&attests);
        named["signatures"][0]["keyid"] = key_id;
        let mut found = read_one(DSSE_ENVELOPE, named.to_string().as_bytes());
        found.pop().expect("a signature")
    };
    let own = named(json!(FINGERPRINT));
    let (none, empty, foreign) = (named(Value::Null), named(json!("")), named(json!("SHA256:other")));
    for (found, valid) in [(&none, true), (&empty, true), (&own, true), (&foreign, false)] {
        assert_eq!((check(found, &key()).is_some(), &found.fault), (valid, &None), "{:?}", found.key_id);
    }
    assert_eq!(none.id, empty.id);
    assert!(none.id != own.id && own.id != foreign.id && none.id != foreign.id, "what is valid apart has an id apart");
}

#[test]
fn what_names_several_is_several_rows() {
    let digests = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"a")];
    let found = read_one(BUNDLE, &bundle(&by_key(), &statement(SPDX, &digests)));
    assert_eq!(found.iter().map(|row| row.names).collect::<Vec<_>>(), [Some(digests[0]), Some(digests[1])]);
    assert_ne!(found[0].id, found[1].id);
    assert!(found.iter().all(|row| check(row, &key()).is_some()));
}

#[test]
fn what_cannot_be_read_is_one_row_with_its_fault() {
    let image = [Digest::of(b"image")];
    let message = json!({"mediaType": BUNDLE, "verificationMaterial": by_key(), "messageSignature":
        {"messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode([0; 32])}, "signature": "c2ln"}});
    let other_type = {
        let mut other = envelope(&statement(SPDX, &image));
        other["payloadType"] = json!("text/plain");
        other.to_string().into_bytes()
    };
    for (media_type, bytes, fault) in [
        (BUNDLE, b"{}".to_vec(), "bundle cannot be read"),
        (BUNDLE, b"not JSON".to_vec(), "bundle cannot be read"),
        (BUNDLE, message.to_string().into_bytes(), "bare message signature"),
        (BUNDLE, bundle(&by_key(), b"{}"), "statement cannot be read"),
        (BUNDLE, bundle(&by_key(), &statement(SPDX, &[])), "statement"),
        (BUNDLE, bundle(&by_key(), &statement("", &image)), "predicate type"),
        (BUNDLE, bundle(&by_key(), &statement(&"x".repeat(257), &image)), "predicate type"),
        (DSSE_ENVELOPE, b"[]".to_vec(), "envelope cannot be read"),
        (DSSE_ENVELOPE, other_type, "payload type"),
    ] {
        let found = read_one(media_type, &bytes);
        let [found] = found.as_slice() else { panic!("{found:?}") };
        assert!(found.fault.as_deref().is_some_and(|text| text.contains(fault)), "{fault}: {:?}", found.fault);
        assert_eq!((found.names, check(found, &key())), (None, None));
    }
}

#[test]
fn a_layer_that_is_too_long_is_not_asked_for() {
    let huge = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": Digest::of(b"{}")},
        "layers": [{"mediaType": DSSE_ENVELOPE, "size": 200 << 20, "digest": Digest::of(b"huge")}]});
    let manifest = Manifest::parse(huge.to_string().into(), None).expect("manifest");
    let found = read(&manifest, |_| panic!("nothing is read"));
    assert_eq!(found.len(), 1);
    assert!(found[0].fault.as_deref().is_some_and(|fault| fault.contains("32 MiB")), "{found:?}");
}

#[test]
fn other_formats_are_found_and_not_checked() {
    let formats = |manifest: &Manifest| {
        read(manifest, |_| panic!("nothing is read")).iter().map(|found| found.format).collect::<Vec<_>>()
    };
    let jose: (&str, &[u8]) = ("application/jose+json", b"x");
    assert_eq!(formats(&manifest(&[jose], Some(NOTATION))), [Format::Notation]);
    assert_eq!(formats(&manifest(&[], Some(NOTATION))), [Format::Notation]);
    assert_eq!(formats(&manifest(&[], Some(BUNDLE))), [Format::Bundle]);
    assert_eq!(formats(&manifest(&[("text/spdx+json", b"x")], None)), []);
    let two = read(&manifest(&[(DSSE_ENVELOPE, b"x"), (DSSE_ENVELOPE, b"y")], None), |_| None);
    assert_eq!((two.len(), two[1].layer), (2, 1));
    assert_ne!(two[0].id, two[1].id);
}
