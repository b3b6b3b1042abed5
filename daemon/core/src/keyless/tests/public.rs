//! Bundles out of the wild: the public Sigstore's, and those that sigstore-go is tested with.

use super::*;

fn other(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/sigstore-go");
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn root_of(name: &str) -> TrustedRoot {
    TrustedRoot::parse(&other(&format!("trusted-root-{name}.json"))).expect(name)
}

fn anybody() -> Demands {
    let any = || Pattern::new(None, Some("^.*$")).expect("a pattern");
    Demands::keyless(vec![Identity { subject: any(), issuer: any(), ..Identity::default() }], now())
}

#[test]
fn the_public_root_verifies_a_persons_attestation() {
    let bundle = Bundle::parse(&other("dsse.sigstore.json")).expect("a bundle");
    let claim = Claim::of_bundle(&bundle, None, None).expect("a claim");
    let accepted = examine(&claim, &root_of("public-good")).meets(&anybody()).expect("accepted");
    assert_eq!(accepted.issuer.as_deref(), Some("https://github.com/login/oauth"));
    assert!(accepted.sct && accepted.entries.len() == 1, "{accepted:?}");
    assert!(examine(&claim, &root("good")).meets(&anybody()).is_err(), "another site's root");
    assert!(Bundle::parse(&other("dsse-2sigs.sigstore.json")).is_err());
}

#[test]
fn an_other_name_is_an_identity() {
    let bundle = Bundle::parse(&other("othername.sigstore.json")).expect("a bundle");
    let digest = "sha256:bc103b4a84971ef6459b294a2b98568a2bfb72cded09d4acd1e16366a401f95b".parse().expect("a digest");
    let hashes = Hashes::of_digest(&digest).expect("SHA-256");
    let claim = Claim::of_bundle(&bundle, Some(Message::Hashed(&hashes)), None).expect("a claim");
    let accepted = examine(&claim, &root_of("scaffolding")).meets(&anybody()).expect("accepted");
    assert_eq!(accepted.subject.as_deref(), Some("foo!oidc.local"));
}

#[test]
fn npms_own_signature_names_its_key() {
    let key = PublicKey::from_pem(&other("publish_key.pub")).expect("a key");
    let mut json: Value = serde_json::from_slice(&other("bundle-publish.json")).expect("JSON");
    let check = |json: &Value| {
        let bundle = parse(json)?;
        let claim = Claim::of_bundle(&bundle, None, Some(&key))?;
        examine(&claim, &root_of("public-good")).meets(&Demands::key(now()))
    };
    assert_eq!(check(&json).expect("accepted").entries.len(), 1);
    let id = json.pointer_mut("/dsseEnvelope/signatures/0/keyid").expect("a key id");
    assert!(id.as_str().is_some_and(|id| id.starts_with("SHA256:")));
    *id = json!("SHA256:another");
    assert_eq!(check(&json).expect_err("another key's name").check, Check::Signature);
}

#[test]
fn a_key_may_have_a_timestamp_and_no_log() {
    let key = PublicKey::from_pem(&other("public-key-validity.pem")).expect("a key");
    let bundle = Bundle::parse(&other("public-key-validity.sigstore.json")).expect("a bundle");
    let Content::Message { digest: Some(digest), .. } = &bundle.content else { panic!("no digest") };
    let digest = crate::Digest::Sha256(digest.value[..].try_into().expect("32 bytes"));
    let hashes = Hashes::of_digest(&digest).expect("SHA-256");
    let claim = Claim::of_bundle(&bundle, Some(Message::Hashed(&hashes)), Some(&key)).expect("a claim");
    let evidence = examine(&claim, &root_of("public-key-validity"));
    let demands = Demands { logs: 0, signed_timestamps: true, ..Demands::key(now()) };
    let accepted = evidence.meets(&demands).expect("accepted");
    assert_eq!(accepted.times.len(), 1);
    assert_eq!(evidence.meets(&Demands::key(now())).expect_err("no log").check, Check::LogEntry);
}
