//! A changed signed byte, or a changed byte of a signature, never verifies; any other changed byte is refused, or leaves what is
//! signed and the signature as they were. Over the raw bytes of whole documents: every byte of each, changed to another one.
//!
//! The other bytes are random; a run prints the seed that it began with, and `LARDER_FLIPS` begins with another. Of keyless bundles,
//! of which unoptimised code checks a hundred in a second, so many places are chosen by it; `LARDER_FLIPS_ALL` takes every one.

#[expect(dead_code, reason = "each test takes some of what it makes")]
mod mint;

use std::path::PathBuf;

use bytes::Bytes;
use larder_core::Digest;
use larder_core::asked::{Asked, Claims, Signers, Wanted};
use larder_core::check::Checker;
use larder_core::key::PublicKey;
use larder_core::keyless::{Claim, Demands, Identity, Message, Pattern, TrustedRoot, examine};
use larder_core::manifest::Manifest;
use larder_core::signature::bundle::{Bundle, Content};
use larder_core::signature::found;
use mint::certificate::{sign, spki};
use mint::{Plan, Signs, mint};
use serde_json::{Value, json};

const KEY: u8 = 13;
/// How many places of a keyless bundle are changed.
const KEYLESS: usize = 500;

/// What is signed, the signature over it, and whom it is about.
#[derive(Debug, PartialEq, Eq)]
struct Verified {
    signed: Vec<u8>,
    signature: Vec<u8>,
    about: Option<Digest>,
}

/// xorshift64* (Vigna, 2016): enough to choose bytes by.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("LARDER_FLIPS").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(0x1a4d_e400_5eed);
        println!("LARDER_FLIPS={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    /// Returns a byte other than this one.
    fn other(&mut self, byte: u8) -> u8 {
        byte ^ u8::try_from(self.next() & 0xff).expect("a byte").max(1)
    }

    /// Returns a place before this one.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).expect("32 bits") % end
    }
}

/// Which places of a document are changed.
#[derive(Clone, Copy)]
enum Places {
    All,
    /// So many, chosen at random.
    Some(usize),
}

/// Changes bytes of a document: each once to any other, and once by one bit.
fn flip<T: PartialEq + std::fmt::Debug>(
    name: &str,
    document: &[u8],
    places: Places,
    verify: impl Fn(&[u8]) -> Option<T>,
) {
    let whole = verify(document).unwrap_or_else(|| panic!("{name}: unchanged, it is refused"));
    let (mut random, mut accepted) = (Random::new(), 0);
    let places: Vec<usize> = match places {
        Places::Some(count) if std::env::var_os("LARDER_FLIPS_ALL").is_none() => {
            (0..count).map(|_| random.below(document.len())).collect()
        }
        Places::Some(_) | Places::All => (0..document.len()).collect(),
    };
    for &place in &places {
        let byte = document[place];
        for other in [random.other(byte), byte ^ (1 << (place % 8))] {
            let mut changed = document.to_vec();
            changed[place] = other;
            if let Some(verified) = verify(&changed) {
                accepted += 1;
                assert_eq!(verified, whole, "{name}: byte {place} is {other:#04x} instead of {byte:#04x}");
            }
        }
    }
    let (places, bytes) = (places.len(), document.len());
    println!("{name}: {places} places of {bytes} bytes, each changed twice; {accepted} changes changed nothing");
}

fn now() -> jiff::Timestamp {
    "2030-01-01T00:00:00Z".parse().expect("a time")
}

fn key() -> PublicKey {
    PublicKey::from_der(&spki(KEY)).expect("a key")
}

fn identity(subject: &str, issuer: &str) -> Demands {
    let pattern = |text| Pattern::new(Some(text), None).expect("a pattern");
    let identity = Identity { subject: pattern(subject), issuer: pattern(issuer), ..Identity::default() };
    Demands { signed_timestamps: true, ..Demands::keyless(vec![identity], now()) }
}

fn bundle(
    text: &[u8],
    message: &[u8],
    key: Option<&PublicKey>,
    root: &TrustedRoot,
    demands: &Demands,
) -> Option<Verified> {
    let bundle = Bundle::parse(text).ok()?;
    let claim = Claim::of_bundle(&bundle, Some(Message::Bytes(message)), key).ok()?;
    examine(&claim, root).meets(demands).ok()?;
    let (signed, signature) = match &bundle.content {
        Content::Message { signature, .. } => (message.to_vec(), signature),
        Content::Envelope(envelope) => (envelope.pae(), &envelope.signature),
    };
    Some(Verified { signed, signature: signature.to_vec(), about: None })
}

fn fixture(path: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cosign/keyless");
    std::fs::read(folder.join(path)).expect(path)
}

#[test]
fn keyless_bundles_of_cosign() {
    let root = TrustedRoot::parse(&fixture("roots/good.json")).expect("a root");
    let (hello, alice) = (fixture("blobs/hello.txt"), identity("alice@example.com", "http://127.0.0.1:8400"));
    for name in ["blob-rekor1_tsa", "blob-rekor2_tsa", "attest-rekor1_tsa", "attest-rekor2_tsa"] {
        let text = fixture(&format!("bundles/{name}.json"));
        flip(name, &text, Places::Some(KEYLESS), |text| bundle(text, &hello, None, &root, &alice));
    }
}

#[test]
fn a_keyed_bundle() {
    let demands = Demands { logs: 0, ..Demands::key(now()) };
    for signs in [Signs::File, Signs::Statement] {
        let mut bundle_of = mint(&Plan { signs, ..Plan::default() }).bundle;
        bundle_of["verificationMaterial"] = json!({"publicKey": {"hint": "a hint"}});
        let verify = |text: &[u8]| bundle(text, mint::MESSAGE, Some(&key()), &TrustedRoot::default(), &demands);
        flip(&format!("keyed bundle, {signs:?}"), bundle_of.to_string().as_bytes(), Places::All, verify);
    }
}

fn manifest(media_type: &str, annotations: Value) -> Vec<u8> {
    let digest = Digest::of(b"the layer").to_string();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": digest},
        "layers": [{"mediaType": media_type, "size": 245, "digest": digest, "annotations": annotations}]});
    manifest.to_string().into_bytes()
}

fn classic(manifest: &[u8], layer: &[u8], says: Wanted) -> Option<Verified> {
    let asked = Asked {
        signers: Signers::Keys(vec![key()]),
        root: TrustedRoot::default(),
        demands: Demands { logs: 0, ..Demands::key(now()) },
        claims: Claims::Checked,
        annotations: Default::default(),
        says,
    };
    let manifest = Manifest::parse(Bytes::copy_from_slice(manifest), None).ok()?;
    let found = found::read(&manifest, |_| Some(Bytes::copy_from_slice(layer))).into_iter().next()?;
    let held = asked.concerns(&found) && asked.holds(&found, Digest::of(b"image")).is_ok();
    held.then(|| Verified {
        signed: found.signed().into_owned(),
        signature: found.signature.to_vec(),
        about: found.names,
    })
}

#[test]
fn a_classic_signature_and_its_manifest() {
    let payload = mint::payload();
    let annotations = json!({"dev.cosignproject.cosign/signature": mint::log::b64(sign(KEY, &payload))});
    let manifest = manifest("application/vnd.dev.cosign.simplesigning.v1+json", annotations);
    flip("payload", &payload, Places::All, |payload| classic(&manifest, payload, Wanted::Signature));
    flip("signature's manifest", &manifest, Places::All, |manifest| classic(manifest, &payload, Wanted::Signature));
}

#[test]
fn a_classic_attestation_and_its_manifest() {
    let statement = mint::statement(mint::PREDICATE);
    let envelope = json!({"payload": mint::log::b64(&statement), "payloadType": mint::IN_TOTO,
        "signatures": [{"keyid": "", "sig": mint::log::b64(sign(KEY, &mint::pae(&statement)))}]});
    let envelope = envelope.to_string().into_bytes();
    let manifest = manifest("application/vnd.dsse.envelope.v1+json", json!({"dev.cosignproject.cosign/signature": ""}));
    let attestation = || Wanted::Attestation(None);
    flip("envelope", &envelope, Places::All, |envelope| classic(&manifest, envelope, attestation()));
    flip("attestation's manifest", &manifest, Places::All, |manifest| classic(manifest, &envelope, attestation()));
}

/// A public key's file is refused, or is still that key's; or it is another's, and then what was signed does not verify.
#[test]
fn public_keys() {
    use ed25519_dalek::Signer as _;
    let by_p256 = (key(), sign(KEY, mint::MESSAGE));
    let ed25519 = PublicKey::from_der(&mint::log::ed25519_spki()).expect("a key");
    let by_ed25519 = (ed25519, mint::log::ed25519().sign(mint::MESSAGE).to_bytes().to_vec());
    for (key, signature) in [by_p256, by_ed25519] {
        flip(key.algorithm().name(), key.to_pem().as_bytes(), Places::All, |file| {
            let key = PublicKey::from_pem(file).ok()?;
            Checker::new(mint::MESSAGE, &signature).check(&key).map(|hash| (hash, key.id()))
        });
    }
}
