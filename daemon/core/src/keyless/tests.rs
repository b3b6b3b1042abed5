//! The engine on what real tools signed, and on the same with one thing changed.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::signature::dsse::Envelope;

mod made;
mod public;

fn fixture(path: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cosign/keyless");
    fs::read(folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root(name: &str) -> TrustedRoot {
    TrustedRoot::parse(&fixture(&format!("roots/{name}.json"))).expect(name)
}

fn json_of(name: &str) -> Value {
    serde_json::from_slice(&fixture(&format!("bundles/{name}.json"))).expect(name)
}

fn parse(value: &Value) -> Result<Bundle, Finding> {
    let parsed = Bundle::parse(value.to_string().as_bytes());
    parsed.map_err(|error| Finding::new(Check::Certificate, format!("does not parse: {error}")))
}

fn now() -> jiff::Timestamp {
    "2030-01-01T00:00:00Z".parse().expect("a time")
}

fn alice() -> Demands {
    let subject = Pattern::new(Some("alice@example.com"), None).expect("a pattern");
    let issuer = Pattern::new(Some("http://127.0.0.1:8400"), None).expect("a pattern");
    Demands::keyless(vec![Identity { subject, issuer, ..Identity::default() }], now())
}

fn stamped() -> Demands {
    Demands { signed_timestamps: true, ..alice() }
}

fn evidence(value: &Value, root: &TrustedRoot) -> Result<Evidence, Finding> {
    let (bundle, hello) = (parse(value)?, fixture("blobs/hello.txt"));
    let claim = Claim::of_bundle(&bundle, Some(Message::Bytes(&hello)), None)?;
    Ok(examine(&claim, root))
}

fn verify(value: &Value, demands: &Demands) -> Result<Accepted, Finding> {
    evidence(value, &root("good"))?.meets(demands)
}

#[test]
fn facts_name_everyone_who_proved_something() {
    let good = root("good");
    let both = evidence(&json_of("blob-both"), &good).expect("evidence");
    let certificate = both.certificate.as_ref().expect("a certificate");
    assert_eq!(certificate.identity.as_deref(), Some("alice@example.com"));
    assert_eq!(certificate.issuer.as_deref(), Some("http://127.0.0.1:8400"));
    assert_eq!(certificate.chains.len(), 1);
    assert_eq!(certificate.chains[0].authority, good.authorities[0].id);
    assert_eq!(certificate.chains[0].scts[0].log, good.ct_logs[0].id);
    let logs = both.entries.iter().map(|entry| match entry {
        Entry::Proven(entry) => (entry.log, entry.integrated.is_some()),
        other => panic!("{other:?}"),
    });
    let logs: Vec<_> = logs.collect();
    assert_eq!(logs, [(good.logs[1].id, false), (good.logs[0].id, true)]);
    assert_eq!(both.timestamps[0].as_ref().expect("a time").authority, good.timestamp_authorities[0].id);
    assert!(both.findings().is_empty(), "{:?}", both.findings());
}

#[test]
fn a_workflows_extensions_are_all_read() {
    let actions = evidence(&json_of("blob-actions"), &root("good")).expect("evidence");
    let certificate = actions.certificate.expect("a certificate");
    for (number, text) in [(2, "push"), (4, "release"), (5, "acme/app"), (6, "refs/tags/v1")] {
        assert_eq!(certificate.extensions.get(&number).map(String::as_str), Some(text), "{}", extension_name(number));
    }
    assert!((8..=22).all(|number| certificate.extensions.contains_key(&number)), "{:?}", certificate.extensions);
}

#[test]
fn an_id_is_that_of_the_content() {
    let (good, both) = (root("good"), root("both-stacks"));
    let ids = |root: &TrustedRoot| root.logs.iter().map(|log| log.id).collect::<Vec<_>>();
    assert!(ids(&good).iter().all(|id| ids(&both).contains(id)), "a longer root keeps what it had");
    assert_ne!(good.timestamp_authorities[0].id, root("expired-tsa").timestamp_authorities[0].id);
    assert_eq!(good.authorities[0].id, root("expired-tsa").authorities[0].id);
}

/// Changes one thing in a bundle.
fn changed(name: &str, pointer: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut bundle = json_of(name);
    change(bundle.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {name}")));
    bundle
}

fn flip(value: &mut Value) {
    let mut bytes = STANDARD.decode(value.as_str().expect("text")).expect("base64");
    let last = bytes.last_mut().expect("bytes");
    *last ^= 1;
    *value = json!(STANDARD.encode(bytes));
}

const ENTRY: &str = "/verificationMaterial/tlogEntries/0";
const STAMP: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
const CERTIFICATE: &str = "/verificationMaterial/certificate/rawBytes";

/// One thing changed in a Rekor v1's and a Rekor v2's bundle; each time the check that must name it.
#[test]
fn each_change_is_named_by_its_check() {
    let other = json_of("blob-again-rekor1_tsa");
    let set = |value: Value| move |field: &mut Value| *field = value;
    let from_other = |pointer: &str| set(other.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).clone());
    let entry = |path: &str| format!("{ENTRY}{path}");
    let one = "blob-rekor1_tsa";
    let two = "blob-rekor2_tsa";
    let mut cases: Vec<(&str, Value, Check)> = vec![
        ("signature", changed(one, "/messageSignature/signature", flip), Check::Signature),
        (
            "another signature",
            changed(one, "/messageSignature/signature", from_other("/messageSignature/signature")),
            Check::Signature,
        ),
        ("digest", changed(one, "/messageSignature/messageDigest/digest", flip), Check::Artifact),
        ("no digest", changed(one, "/messageSignature/messageDigest", set(Value::Null)), Check::Artifact),
        (
            "digest's algorithm",
            changed(one, "/messageSignature/messageDigest/algorithm", set(json!("SHA2_384"))),
            Check::Artifact,
        ),
        ("another certificate", changed(one, CERTIFICATE, from_other(CERTIFICATE)), Check::Signature),
        ("no certificate", changed(one, CERTIFICATE, set(json!("MAA="))), Check::Certificate),
        ("certificate's signature", changed(one, CERTIFICATE, flip), Check::LogEntry),
        ("time", changed(one, &entry("/integratedTime"), set(json!("1795412694"))), Check::LogEntry),
        ("no time", changed(one, &entry("/integratedTime"), set(Value::Null)), Check::LogEntry),
        ("promise", changed(one, &entry("/inclusionPromise/signedEntryTimestamp"), flip), Check::LogEntry),
        ("no promise", changed(one, &entry("/inclusionPromise"), set(Value::Null)), Check::ObservedTime),
        ("outer index", changed(one, &entry("/logIndex"), set(json!("77"))), Check::LogEntry),
        ("another entry", changed(one, ENTRY, from_other(ENTRY)), Check::LogEntry),
        ("a Rekor that is not trusted", changed(one, &entry("/logId/keyId"), flip), Check::LogEntry),
        (
            "entry twice",
            changed(one, "/verificationMaterial/tlogEntries", |list| {
                let again = list[0].clone();
                list.as_array_mut().expect("a list").push(again);
            }),
            Check::LogEntry,
        ),
        ("no entry", changed(one, "/verificationMaterial/tlogEntries", set(json!([]))), Check::LogEntry),
    ];
    for name in [one, two] {
        let proof = |path: &str| format!("{ENTRY}/inclusionProof{path}");
        cases.extend([
            ("kind", changed(name, &entry("/kindVersion/kind"), set(json!("dsse"))), Check::LogEntry),
            ("version", changed(name, &entry("/kindVersion/version"), set(json!("0.0.3"))), Check::LogEntry),
            ("body", changed(name, &entry("/canonicalizedBody"), flip), Check::LogEntry),
            (
                "another body",
                changed(name, &entry("/canonicalizedBody"), from_other(&entry("/canonicalizedBody"))),
                Check::LogEntry,
            ),
            ("root", changed(name, &proof("/rootHash"), flip), Check::LogEntry),
            ("size", changed(name, &proof("/treeSize"), set(json!("99"))), Check::LogEntry),
            ("inner index", changed(name, &proof("/logIndex"), set(json!("0"))), Check::LogEntry),
            ("sibling", changed(name, &proof("/hashes/0"), flip), Check::LogEntry),
            (
                "siblings' order",
                changed(name, &proof("/hashes"), |list| list.as_array_mut().expect("a list").reverse()),
                Check::LogEntry,
            ),
            (
                "too few siblings",
                changed(name, &proof("/hashes"), |list| {
                    list.as_array_mut().expect("a list").pop();
                }),
                Check::LogEntry,
            ),
            ("short sibling", changed(name, &proof("/hashes/0"), set(json!("AAAA"))), Check::LogEntry),
            ("checkpoint", changed(name, &proof("/checkpoint/envelope"), set(json!("x"))), Check::LogEntry),
            (
                "another checkpoint",
                changed(name, &proof("/checkpoint"), from_other(&proof("/checkpoint"))),
                Check::LogEntry,
            ),
        ]);
    }
    cases.extend([
        ("two indexes", changed(two, &entry("/logIndex"), set(json!("1"))), Check::LogEntry),
        (
            "a promise of Rekor v2",
            changed(two, ENTRY, |entry| entry["inclusionPromise"] = json!({"signedEntryTimestamp": "AQID"})),
            Check::LogEntry,
        ),
        ("stamp", changed(two, STAMP, flip), Check::Timestamp),
        ("another stamp", changed(two, STAMP, from_other(STAMP)), Check::Timestamp),
        ("empty stamp", changed(two, STAMP, set(json!(""))), Check::Timestamp),
        (
            "no stamp",
            changed(two, "/verificationMaterial/timestampVerificationData", set(Value::Null)),
            Check::Timestamp,
        ),
    ]);
    for (what, bundle, check) in cases {
        match verify(&bundle, &alice()) {
            Ok(_) => panic!("{what}: accepted"),
            Err(finding) => assert_eq!(finding.check, check, "{what}: {finding}"),
        }
    }
}

#[test]
fn each_root_that_lacks_something_is_named_by_its_check() {
    let refused = |name: &str, bundle: &str, demands: &Demands| {
        let evidence = evidence(&json_of(bundle), &root(name)).expect("evidence");
        evidence.meets(demands).expect_err(name).check
    };
    for (name, check) in [
        ("no-rekor1", Check::LogEntry),
        ("no-rekor", Check::LogEntry),
        ("future-rekor", Check::LogEntry),
        ("rekor-ids-swapped", Check::LogEntry),
        ("no-ctlog", Check::Sct),
        ("other-ctlog", Check::Sct),
        ("ctlog-other-id", Check::Sct),
        ("expired-ctlog", Check::Sct),
        ("future-ctlog", Check::Sct),
        ("expired-fulcio", Check::CertificateChain),
        ("fulcio-root-only", Check::CertificateChain),
    ] {
        assert_eq!(refused(name, "blob-rekor1_tsa", &alice()), check, "{name}");
    }
    for name in ["no-tsa", "other-tsa", "expired-tsa", "future-tsa", "tsa-root-only"] {
        assert_eq!(refused(name, "blob-rekor1_tsa", &stamped()), Check::Timestamp, "{name}");
        let unasked = evidence(&json_of("blob-rekor1_tsa"), &root(name)).expect("evidence");
        assert!(unasked.meets(&alice()).is_ok(), "nobody asked for a timestamp: {name}");
        let findings: Vec<_> = unasked.findings().iter().map(|finding| finding.check).collect();
        assert_eq!(findings, [Check::Timestamp], "and yet it is told: {name}");
    }
    assert_eq!(
        refused("future-rekor", "blob-rekor2_tsa", &alice()),
        Check::LogEntry,
        "Rekor v2's key has a window too"
    );
    assert!(TrustedRoot::parse(&fixture("roots/unknown-field.json")).is_err());
}

#[test]
fn demands_are_met_one_by_one() {
    let bundle = json_of("blob-rekor1_tsa");
    let refused = |demands: Demands| verify(&bundle, &demands).expect_err("refused").check;
    assert!(verify(&bundle, &alice()).is_ok() && verify(&bundle, &stamped()).is_ok());
    assert_eq!(refused(Demands { logs: 2, ..alice() }), Check::LogEntry);
    assert_eq!(refused(Demands { logs: 0, ..alice() }), Check::CertificateChain, "now it is expired");
    assert!(verify(&bundle, &Demands { logs: 0, ..stamped() }).is_ok());
    let then = "2026-11-23T05:45:00Z".parse().expect("a time");
    assert!(verify(&json_of("blob-none"), &Demands { logs: 0, now: then, ..alice() }).is_ok(), "then it was not");
    assert_eq!(refused(Demands::keyless(Vec::new(), now())), Check::Signer, "nobody is asked for");
    assert_eq!(refused(Demands::key(now())), Check::Signer, "a certificate is no key");
    assert!(verify(&json_of("blob-both"), &Demands { logs: 2, ..alice() }).is_ok());
    let nosct = json_of("blob-nosct");
    assert_eq!(verify(&nosct, &alice()).expect_err("no SCT").check, Check::Sct);
    let accepted = verify(&nosct, &Demands { sct: false, ..alice() }).expect("without");
    assert!(!accepted.sct, "what did not run is not told");
}

/// Every byte of every field of a bundle, flipped: what is accepted has the same content, signature and signer.
#[test]
fn no_flipped_byte_changes_what_is_accepted() {
    fn fields(value: &Value, path: String, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(name, value)| fields(value, format!("{path}/{name}"), found)),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(place, value)| fields(value, format!("{path}/{place}"), found));
            }
            Value::String(text) if text.len() > 20 && STANDARD.decode(text).is_ok() => found.push(path),
            _ => {}
        }
    }
    let good = root("good");
    for name in ["blob-rekor1_tsa", "blob-rekor2_tsa", "attest-rekor2_tsa"] {
        let original = json_of(name);
        let whole = parse(&original).expect(name);
        let mut paths = Vec::new();
        fields(&original, String::new(), &mut paths);
        assert!(paths.len() >= 7, "{paths:?}");
        for (round, path) in paths.iter().enumerate() {
            let text = original.pointer(path).and_then(Value::as_str).expect("text");
            let bytes = STANDARD.decode(text).expect("base64");
            // Every byte of every field takes minutes; every seventh, from another start in each field, seconds.
            for place in (round % 7..bytes.len()).step_by(7) {
                let mut flipped = bytes.clone();
                flipped[place] ^= 1 << (place % 8);
                let bundle = changed(name, path, |field| *field = json!(STANDARD.encode(&flipped)));
                let Ok(evidence) = evidence(&bundle, &good) else { continue };
                if evidence.meets(&stamped()).is_ok() {
                    let found = parse(&bundle).expect("it was accepted");
                    assert_eq!((&found.content, &found.material), (&whole.content, &whole.material), "{path} {place}");
                    assert!(path.ends_with("signedTimestamp"), "{name}: byte {place} of {path} is not looked at");
                }
            }
        }
    }
}

#[test]
fn a_classic_signature_is_checked_by_its_annotations() {
    let local = LocalBundle::parse(&fixture("bundles/legacy-blob.json")).expect("a bundle");
    let certificate = certificates(&local.certificate.expect("a certificate")).expect("PEM").remove(0);
    let hello = fixture("blobs/hello.txt");
    let stamp = timestamp_annotation(&fixture("bundles/legacy-blob.tsr")).expect("a timestamp");
    let (entries, timestamps) = (vec![local.entry.expect("an entry").expect("a good one")], vec![stamp]);
    let claim = Claim {
        signed: Signed::Message(Message::Bytes(&hello)),
        signature: &local.signature,
        digest: GivenDigest::NotAsked,
        key_id: None,
        signer: Signer::Certificate { leaf: &certificate, more: &[], form: ChainForm::Classic },
        entries: &entries,
        timestamps: &timestamps,
        stamped: &local.signature,
    };
    let good = root("good");
    assert!(examine(&claim, &good).meets(&alice()).is_ok());
    assert!(examine(&claim, &good).meets(&stamped()).is_ok());
    let other = Claim { signed: Signed::Message(Message::Bytes(b"other")), ..claim.clone() };
    assert_eq!(examine(&other, &good).meets(&alice()).expect_err("other").check, Check::Signature);
    let elsewhere = Claim { stamped: &hello, ..claim.clone() };
    assert_eq!(examine(&elsewhere, &good).meets(&stamped()).expect_err("stamp").check, Check::Timestamp);
    let none = Claim { timestamps: &[], ..claim };
    assert_eq!(examine(&none, &good).meets(&stamped()).expect_err("none there").check, Check::Timestamp);
}

#[test]
fn a_root_is_put_together_from_single_files() {
    let key = |name: &str| PublicKey::from_pem(&fixture(&format!("keys/{name}.pub"))).expect(name);
    let chain = |name: &str| certificates(&fixture(&format!("keys/{name}.pem"))).expect(name);
    let (issuers, stamps) = (chain("fulcio-chain"), chain("tsa-chain"));
    let root = TrustedRoot::assemble(&issuers, &stamps, vec![key("rekor1")], vec![key("ctlog")]).expect("a root");
    assert!(evidence(&json_of("blob-rekor1_tsa"), &root).expect("evidence").meets(&stamped()).is_ok());
    assert!(TrustedRoot::assemble(&issuers[..1], &[], Vec::new(), Vec::new()).is_err(), "no root in it");
}

#[test]
fn hashes_serve_in_place_of_the_file() {
    let hello = fixture("blobs/hello.txt");
    let mut hasher = MessageHasher::default();
    hello.chunks(3).for_each(|chunk| hasher.update(chunk));
    let hashes = hasher.finish();
    for name in ["blob-rekor1_tsa", "blob-p384", "blob-rsa", "blob-p384-rekor2"] {
        let bundle = parse(&json_of(name)).expect(name);
        let claim = Claim::of_bundle(&bundle, Some(Message::Hashed(&hashes)), None).expect(name);
        assert!(examine(&claim, &root("good")).meets(&alice()).is_ok(), "{name}");
    }
    let digest = Hashes::of_digest(&crate::Digest::of(&hello)).expect("SHA-256");
    let bundle = parse(&json_of("blob-p384")).expect("a bundle");
    let claim = Claim::of_bundle(&bundle, Some(Message::Hashed(&digest)), None).expect("a claim");
    assert!(examine(&claim, &root("good")).meets(&alice()).is_err(), "SHA-256 says nothing of SHA-384");
}

#[test]
fn an_envelope_with_a_key_id_is_refused() {
    let bundle = changed("attest-rekor1_tsa", "/dsseEnvelope/signatures/0", |one| one["keyid"] = json!("mine"));
    assert_eq!(verify(&bundle, &alice()).expect_err("a key id").check, Check::Signature);
    let envelope = parse(&json_of("attest-rekor1_tsa")).expect("a bundle").content;
    assert!(matches!(envelope, Content::Envelope(Envelope { key_id: None, .. })));
}
