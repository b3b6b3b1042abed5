//! The limits of what strangers write: at a limit it is read, beyond it it is refused by its name, before it is looked at.

#[expect(dead_code, reason = "each test takes some of what it makes")]
mod mint;

use larder_core::keyless::{
    AnnotationError, Claim, Demands, Identity, LocalBundle, MAX_ROOT_BYTES, Message, Pattern, TrustedRoot,
    certificates, examine, log_entry, timestamp_annotation,
};
use larder_core::signature::bundle::{Bundle, MAX_BUNDLE_BYTES, MAX_ENTRIES, MAX_TIMESTAMPS};
use larder_core::signature::dsse::{Envelope, EnvelopeError, MAX_ENVELOPE_BYTES, MAX_SIGNATURE_BYTES};
use mint::log::b64;
use mint::{Plan, mint};
use serde_json::{Value, json};

/// The most bytes of an annotation.
const ANNOTATION: usize = 1 << 20;

fn spaces(bytes: usize) -> Vec<u8> {
    vec![b' '; bytes]
}

#[test]
fn whole_documents() {
    let bundle = |bytes: usize| Bundle::parse(&spaces(bytes)).expect_err("spaces").reason();
    assert_eq!((bundle(MAX_BUNDLE_BYTES), bundle(MAX_BUNDLE_BYTES + 1)), ("bundle-not-json", "bundle-too-long"));
    let envelope = |bytes: usize| Envelope::parse(&spaces(bytes)).expect_err("spaces").reason();
    let expected = ("envelope-malformed", "envelope-too-long");
    assert_eq!((envelope(MAX_ENVELOPE_BYTES), envelope(MAX_ENVELOPE_BYTES + 1)), expected);
    let root = |bytes: usize| TrustedRoot::parse(&spaces(bytes)).expect_err("spaces").reason();
    assert_eq!((root(MAX_ROOT_BYTES), root(MAX_ROOT_BYTES + 1)), ("root-not-json", "root-too-long"));
}

#[test]
fn annotations() {
    let errors = |bytes: usize| {
        let text = spaces(bytes);
        [
            log_entry(&text).expect_err("spaces"),
            timestamp_annotation(&text).expect_err("spaces"),
            LocalBundle::parse(&text).expect_err("spaces"),
            certificates(&text).expect_err("spaces"),
        ]
    };
    let is_too_long = |error: &AnnotationError| matches!(error, AnnotationError::TooLong(_));
    assert!(!errors(ANNOTATION).iter().any(is_too_long));
    assert!(errors(ANNOTATION + 1).iter().all(is_too_long));
    assert!(!LocalBundle::is_one(&spaces(ANNOTATION + 1)));
}

#[test]
fn signatures_of_an_envelope() {
    let of = |bytes: usize| {
        let envelope = json!({"payload": "", "payloadType": "x", "signatures": [{"sig": b64(vec![0; bytes])}]});
        Envelope::parse(envelope.to_string().as_bytes())
    };
    assert!(of(MAX_SIGNATURE_BYTES).is_ok());
    assert_eq!(of(MAX_SIGNATURE_BYTES + 1), Err(EnvelopeError::LongSignature(MAX_SIGNATURE_BYTES + 1)));
}

/// Fills a list up to so many items, each of which differs a little.
fn filled(list: &Value, items: usize, differ: impl Fn(&mut Value, usize)) -> Value {
    let first = list[0].clone();
    let more = (1..items).map(|place| {
        let mut item = first.clone();
        differ(&mut item, place);
        item
    });
    [first.clone()].into_iter().chain(more).collect()
}

#[test]
fn thirty_two_entries_and_timestamps_and_no_more() {
    let made = mint(&Plan::default());
    let root = TrustedRoot::parse(made.root.to_string().as_bytes()).expect("a root");
    let pattern = |text| Pattern::new(Some(text), None).expect("a pattern");
    let identity =
        Identity { subject: pattern(mint::IDENTITY), issuer: pattern(mint::OIDC_ISSUER), ..Identity::default() };
    let now = "2030-01-01T00:00:00Z".parse().expect("a time");
    let demands = Demands { signed_timestamps: true, ..Demands::keyless(vec![identity], now) };
    let verify = |entries: usize, stamps: usize| {
        let mut bundle = made.bundle.clone();
        let material = &mut bundle["verificationMaterial"];
        // Entries of logs that are not trusted harm nothing.
        material["tlogEntries"] = filled(&material["tlogEntries"], entries, |entry, place| {
            entry["logIndex"] = json!(place.to_string());
            entry["logId"]["keyId"] = json!(b64([0; 32]));
        });
        let list = &mut material["timestampVerificationData"]["rfc3161Timestamps"];
        *list = filled(list, stamps, |_, _| {});
        let bundle = Bundle::parse(bundle.to_string().as_bytes()).map_err(|error| error.to_string())?;
        let claim = Claim::of_bundle(&bundle, Some(Message::Bytes(mint::MESSAGE)), None).expect("a claim");
        examine(&claim, &root).meets(&demands).map_err(|finding| finding.to_string())
    };
    assert!(verify(1, 1).is_ok());
    let accepted = verify(MAX_ENTRIES, MAX_TIMESTAMPS).expect("32 of each");
    assert_eq!((accepted.entries.len(), accepted.timestamps.len()), (1, 1), "one log and one authority count");
    assert!(verify(MAX_ENTRIES + 1, 1).expect_err("33 entries").contains("tlogEntries"));
    assert!(verify(1, MAX_TIMESTAMPS + 1).expect_err("33 timestamps").contains("rfc3161Timestamps"));
}
