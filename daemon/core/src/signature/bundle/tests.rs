use serde_json::{Value, json};

use super::*;

/// Annex A.2 of the fact sheet: a bundle by a key, without log and timestamp.
const KEYED: &str = r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"xROF8CkpjgP9nZ+yLkAkcoSqM7ncq1TtSP3M6lPixf4="}},"dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJkaWdlc3QiOnsic2hhMjU2IjoiMjY0MDAwNDQ4MzQwMDA5OWNhYWY1NjFkNTQwYzZmM2ZlYjgyZDU2MzYxYjhiZGQ5ZjBjYzE5NDMyYzMxZjBmYyJ9LCJhbm5vdGF0aW9ucyI6e319XSwicHJlZGljYXRlVHlwZSI6Imh0dHBzOi8vc2lnc3RvcmUuZGV2L2Nvc2lnbi9zaWduL3YxIiwicHJlZGljYXRlIjp7fX0=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEYCIQD+Tkd/v91Kp2PIDvg6HBDG8dZDX52E0ZULVd/AvhwfegIhAMbi1Drjz/D/yQmdi+V0VxIjgCAeafswNXSrq1y0yXGM"}]}}"#;

fn logged() -> Value {
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "certificate": {"rawBytes": "AQID"},
            "tlogEntries": [{
                "logIndex": "6",
                "logId": {"keyId": "AQID"},
                "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"},
                "integratedTime": 1_795_412_693,
                "inclusionPromise": {"signedEntryTimestamp": "AQID"},
                "inclusionProof": {
                    "logIndex": 5, "rootHash": "AQID", "treeSize": "7", "hashes": ["AQID"],
                    "checkpoint": {"envelope": "origin\n7\nAQID\n\n— origin AQID\n"}
                },
                "canonicalizedBody": "e30="
            }],
            "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "AQID"}]}
        },
        "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": "AQID"}, "signature": "AQID"}
    })
}

fn parse(value: &Value) -> Result<Bundle, BundleError> {
    Bundle::parse(value.to_string().as_bytes())
}

#[test]
fn a_bundle_by_a_key_is_read() {
    let bundle = Bundle::parse(KEYED.as_bytes()).expect("a bundle");
    assert_eq!(bundle.version, Version::V03);
    assert!(bundle.entries.is_empty() && bundle.timestamps.is_empty() && bundle.material.leaf().is_none());
    let Content::Envelope(envelope) = bundle.content else { panic!("no envelope") };
    let digest = crate::Digest::of(&envelope.pae());
    assert_eq!(digest.hex(), "9b0640c49e21714090365c68d2d9b2bf1b4e583c47ff12ad56488d9f95b399cf");
}

#[test]
fn everything_in_an_entry_is_read() {
    let bundle = parse(&logged()).expect("a bundle");
    let entry = bundle.entries.first().expect("an entry");
    assert_eq!((entry.log_index, entry.integrated_time), (6, Some(1_795_412_693)));
    let proof = entry.proof.as_ref().expect("a proof");
    assert_eq!((proof.log_index, proof.tree_size, proof.hashes.len()), (5, 7, 1));
    assert_eq!(bundle.timestamps.len(), 1);
    let snake = logged().to_string().replace("tlogEntries", "tlog_entries").replace("rawBytes", "raw_bytes");
    assert_eq!(Bundle::parse(snake.as_bytes()), Ok(bundle));
}

#[test]
fn media_types_of_three_versions_are_read() {
    for (media_type, expected) in [
        ("application/vnd.dev.sigstore.bundle+json;version=0.1", Some(Version::V01)),
        ("application/vnd.dev.sigstore.bundle+json;version=0.2", Some(Version::V02)),
        ("application/vnd.dev.sigstore.bundle+json;version=0.3", Some(Version::V03)),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", Some(Version::V03)),
        ("application/vnd.dev.sigstore.bundle.v0.3.1+json", Some(Version::V03)),
        ("application/vnd.dev.sigstore.bundle.v0.4+json", None),
        ("application/vnd.dev.sigstore.bundle.v1.0+json", None),
        ("application/vnd.dev.sigstore.bundle.v0+json", None),
        ("application/vnd.dev.sigstore.bundle.v0.3.x+json", None),
        ("application/vnd.dev.sigstore.bundle+json;version=99.9", None),
        ("application/vnd.dev.sigstore.bundle+json", None),
        ("application/json", None),
        ("", None),
    ] {
        assert_eq!(version(media_type), expected, "{media_type}");
    }
}

/// Every field of every message: missing where it is needed, unknown, of the wrong type, beyond its bound.
#[test]
fn each_bad_field_is_named() {
    let entry = "/verificationMaterial/tlogEntries/0";
    let at = |path: &str| format!("{entry}{path}");
    let cases = [
        ("/verificationMaterial".to_owned(), Value::Null, "verificationMaterial is missing"),
        ("/verificationMaterial/certificate".to_owned(), Value::Null, "neither a key nor a certificate"),
        ("/verificationMaterial/certificate".to_owned(), json!({}), "certificate.rawBytes is missing"),
        ("/verificationMaterial/certificate/rawBytes".to_owned(), json!(7), "rawBytes is a number"),
        ("/verificationMaterial/certificate".to_owned(), json!({"rawBytes": "A".repeat(100_000)}), "64 KiB"),
        ("/verificationMaterial/tlogEntries".to_owned(), json!({}), "tlogEntries is an object"),
        ("/verificationMaterial/tlogEntries".to_owned(), json!([null]), "tlogEntries[0] is null"),
        ("/verificationMaterial/tlogEntries".to_owned(), json!(vec![json!({}); 33]), "has 33 items"),
        (
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps".to_owned(),
            json!(vec![json!({}); 33]),
            "has 33 items",
        ),
        (at("/logIndex"), json!("-1"), "tlogEntries[0].logIndex is negative"),
        (at("/logIndex"), json!(1.5), "logIndex is not a 64-bit number"),
        (at("/logId"), Value::Null, "logId is missing"),
        (at("/logId"), json!({"keyId": ""}), "logId.keyId is empty"),
        (at("/kindVersion"), Value::Null, "kindVersion is missing"),
        (at("/kindVersion"), json!({"kind": 1}), "kindVersion.kind is a number"),
        (at("/integratedTime"), json!(-5), "integratedTime is negative"),
        (at("/inclusionProof"), Value::Null, "no entry with an inclusion proof"),
        (at("/inclusionProof/hashes"), json!(["%"]), "hashes[0] is no base64"),
        (at("/inclusionProof/hashes"), json!(vec!["AQID"; 65]), "has 65 items"),
        (at("/inclusionProof/checkpoint"), Value::Null, "checkpoint is missing"),
        (at("/inclusionProof/checkpoint"), json!({"envelope": ""}), "envelope is missing"),
        (at("/canonicalizedBody"), Value::Null, "canonicalizedBody is missing"),
        ("/messageSignature".to_owned(), Value::Null, "neither a message signature nor an envelope"),
        ("/messageSignature/signature".to_owned(), Value::Null, "signature is missing"),
        ("/messageSignature/signature".to_owned(), json!("A".repeat(40_000)), "16 KiB"),
        ("/messageSignature/messageDigest/algorithm".to_owned(), json!("MD5"), "algorithm is not a value"),
    ];
    for (pointer, value, words) in cases {
        let mut bundle = logged();
        *bundle.pointer_mut(&pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        let error = parse(&bundle).expect_err(&pointer).to_string();
        assert!(error.contains(words), "{pointer}: {error}");
    }
}

#[test]
fn unknown_and_doubled_fields_are_refused_at_every_level() {
    let paths = [
        "",
        "/verificationMaterial",
        "/verificationMaterial/certificate",
        "/verificationMaterial/tlogEntries/0",
        "/verificationMaterial/tlogEntries/0/logId",
        "/verificationMaterial/tlogEntries/0/kindVersion",
        "/verificationMaterial/tlogEntries/0/inclusionPromise",
        "/verificationMaterial/tlogEntries/0/inclusionProof",
        "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint",
        "/verificationMaterial/timestampVerificationData",
        "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0",
        "/messageSignature",
        "/messageSignature/messageDigest",
    ];
    for path in paths {
        let mut bundle = logged();
        bundle.pointer_mut(path).expect(path)["extra"] = json!(1);
        let error = parse(&bundle).expect_err(path).to_string();
        assert!(error.ends_with("extra is an unknown field"), "{path}: {error}");
    }
    let twice = logged().to_string().replacen(r#""mediaType""#, r#""mediaType":null,"mediaType""#, 1);
    assert_eq!(Bundle::parse(twice.as_bytes()).expect_err("doubled").reason(), "bundle-not-json");
    let mut both = logged();
    both["verificationMaterial"]["publicKey"] = json!({"hint": "x"});
    assert!(parse(&both).expect_err("both").to_string().contains("is there twice"));
    let mut both = logged();
    both["dsseEnvelope"] = json!({});
    assert!(parse(&both).expect_err("both").to_string().contains("is there twice"));
}

#[test]
fn a_version_asks_for_its_proof() {
    let mut bundle = logged();
    bundle["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.1");
    assert!(parse(&bundle).is_ok());
    bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"] = Value::Null;
    assert!(parse(&bundle).expect_err("no promise").to_string().contains("inclusion promise"));
    bundle["verificationMaterial"]["tlogEntries"] = Value::Null;
    assert!(parse(&bundle).is_ok(), "no entries, no demand");
}

#[test]
fn every_cut_of_a_bundle_is_refused() {
    for end in 0..KEYED.len() {
        assert!(Bundle::parse(&KEYED.as_bytes()[..end]).is_err(), "{end}");
    }
}
