//! Makes a vector's documents, changes them, and verifies them as Larder does.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use larder_core::Digest;
use larder_core::asked::{Asked, Claims, Signers, Wanted};
use larder_core::key::PublicKey;
use larder_core::keyless::{Claim, Demands, Finding, Identity, Message, Pattern, TrustedRoot, examine};
use larder_core::manifest::Manifest;
use larder_core::signature::bundle::Bundle;
use larder_core::signature::found;
use serde_json::{Value, json};

use super::mint::certificate::{sign, spki};
use super::mint::{self, MESSAGE, Made, OIDC_ISSUER, Signs};
use super::{Asks, Format, Vector, edit};

/// The key that signs what is signed by a key.
const KEY: u8 = 13;

/// A refusal: the stable name of the check, and its words.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) check: String,
    pub(crate) words: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.check, self.words)
    }
}

impl From<Finding> for Refused {
    fn from(finding: Finding) -> Self {
        Self::new(finding.reason(), &finding)
    }
}

impl Refused {
    fn new(check: &str, words: &impl fmt::Display) -> Self {
        Self { check: check.to_owned(), words: words.to_string() }
    }
}

pub(crate) fn run(vector: &Vector) -> Result<(), Refused> {
    let mut made = mint::mint(&vector.mint);
    let mut documents = documents(vector, &mut made);
    vector.edits.iter().for_each(|edit| edit::value(edit, &mut documents));
    let written_of = |documents: &Value, name: &str| {
        let mut text = match &documents[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        vector.edits.iter().for_each(|edit| edit::text(edit, name, &mut text));
        text
    };
    if vector.signed_anew {
        sign_anew(&mut documents, vector.format, written_of);
    }
    let written = |name: &str| written_of(&documents, name);
    match vector.format {
        Format::KeylessBundle | Format::TrustedRoot => {
            let root =
                TrustedRoot::parse(written("root").as_bytes()).map_err(|error| Refused::new(error.reason(), &error))?;
            bundle(&written("bundle"), None, &root, &keyless(&vector.asks))
        }
        Format::KeyedBundle => {
            let demands = Demands { logs: 0, ..Demands::key(now()) };
            bundle(&written("bundle"), Some(&key()), &TrustedRoot::default(), &demands)
        }
        Format::ClassicSignature => classic(&written("manifest"), &written("payload"), by_key(Wanted::Signature)),
        Format::ClassicAttestation => {
            classic(&written("manifest"), &written("envelope"), by_key(Wanted::Attestation(None)))
        }
        Format::ClassicKeyless => {
            let root =
                TrustedRoot::parse(written("root").as_bytes()).map_err(|error| Refused::new(error.reason(), &error))?;
            let asked = Asked {
                signers: Signers::Identities,
                root,
                demands: keyless(&vector.asks),
                ..by_key(Wanted::Signature)
            };
            classic(&written("manifest"), &written("payload"), asked)
        }
        Format::Manifest => Manifest::parse(written("manifest").into(), None)
            .map(drop)
            .map_err(|error| Refused::new("manifest", &error)),
        Format::PublicKey => {
            PublicKey::from_pem(written("key").as_bytes()).map(drop).map_err(|error| Refused::new("key", &error))
        }
        Format::PrivateKey => unreachable!("the client reads them"),
    }
}

fn now() -> jiff::Timestamp {
    "2030-01-01T00:00:00Z".parse().expect("a time")
}

fn key() -> PublicKey {
    PublicKey::from_der(&spki(KEY)).expect("a key")
}

fn keyless(asks: &Asks) -> Demands {
    let subject = Pattern::new(Some(mint::IDENTITY), None).expect("a pattern");
    let issuer = Pattern::new(Some(OIDC_ISSUER), None).expect("a pattern");
    Demands {
        signed_timestamps: asks.stamps,
        certificate_chain: asks.chain,
        logs: asks.logs.unwrap_or(1),
        ..Demands::keyless(vec![Identity { subject, issuer, ..Identity::default() }], now())
    }
}

fn by_key(says: Wanted) -> Asked {
    Asked {
        signers: Signers::Keys(vec![key()]),
        root: TrustedRoot::default(),
        demands: Demands { logs: 0, ..Demands::key(now()) },
        claims: Claims::Checked,
        annotations: Default::default(),
        says,
    }
}

/// Returns what can be changed of a vector: documents by their names.
fn documents(vector: &Vector, made: &mut Made) -> Value {
    let b64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let json_of = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    match vector.format {
        Format::KeylessBundle | Format::TrustedRoot => {
            let chain: Vec<Value> = made.chain.iter().map(|der| json!({"rawBytes": b64(der)})).collect();
            json!({"bundle": made.bundle, "root": made.root, "chain": chain, "stranger": b64(&spki(99))})
        }
        Format::KeyedBundle => {
            let mut bundle = made.bundle.take();
            bundle["verificationMaterial"] = json!({"publicKey": {"hint": "a hint"}});
            json!({"bundle": bundle, "certificate": made.annotations["dev.sigstore.cosign/certificate"]})
        }
        Format::ClassicSignature | Format::Manifest => {
            let signature = b64(&sign(KEY, &mint::payload()));
            let annotations = json!({"dev.cosignproject.cosign/signature": signature});
            json!({"payload": json_of(&mint::payload()), "manifest": manifest(SIMPLE_SIGNING, annotations)})
        }
        Format::ClassicAttestation => {
            let statement = mint::statement(mint::PREDICATE);
            let signature = b64(&sign(KEY, &mint::pae(&statement)));
            let envelope = json!({"payload": b64(&statement), "payloadType": mint::IN_TOTO,
                "signatures": [{"keyid": "", "sig": signature}]});
            let annotations = json!({"dev.cosignproject.cosign/signature": ""});
            json!({"envelope": envelope, "statement": json_of(&statement), "manifest": manifest(ENVELOPE, annotations)})
        }
        Format::ClassicKeyless => {
            assert_eq!(vector.mint.signs, Signs::Payload, "classic signatures sign a payload");
            let manifest = manifest(SIMPLE_SIGNING, made.annotations.take());
            json!({"payload": json_of(&made.signed), "manifest": manifest, "root": made.root})
        }
        Format::PublicKey | Format::PrivateKey => json!({"key": vector.text.clone().unwrap_or_else(|| key().to_pem())}),
    }
}

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes the manifest of a signature image with one layer, whose bytes are a document of their own.
fn manifest(media_type: &str, annotations: Value) -> Value {
    let digest = Digest::of(b"the layer").to_string();
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": digest},
        "layers": [{"mediaType": media_type, "size": 245, "digest": digest, "annotations": annotations}]})
}

/// Signs what was changed once more, with the key that is asked for: then only what it says is wrong.
fn sign_anew(documents: &mut Value, format: Format, written: impl Fn(&Value, &str) -> String) {
    match format {
        Format::ClassicSignature => {
            let signature = sign(KEY, written(documents, "payload").as_bytes());
            documents["manifest"]["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"] =
                json!(STANDARD.encode(signature));
        }
        Format::ClassicAttestation => {
            let statement = written(documents, "statement").into_bytes();
            let signature = sign(KEY, &mint::pae(&statement));
            documents["envelope"]["payload"] = json!(STANDARD.encode(&statement));
            documents["envelope"]["signatures"][0]["sig"] = json!(STANDARD.encode(signature));
        }
        other => panic!("{other:?} is not signed anew"),
    }
}

fn bundle(text: &str, key: Option<&PublicKey>, root: &TrustedRoot, demands: &Demands) -> Result<(), Refused> {
    let bundle = Bundle::parse(text.as_bytes()).map_err(|error| Refused::new(error.reason(), &error))?;
    let claim = Claim::of_bundle(&bundle, Some(Message::Bytes(MESSAGE)), key)?;
    examine(&claim, root).meets(demands)?;
    Ok(())
}

fn classic(manifest: &str, layer: &str, asked: Asked) -> Result<(), Refused> {
    let manifest = Manifest::parse(Bytes::copy_from_slice(manifest.as_bytes()), None)
        .map_err(|error| Refused::new("manifest", &error))?;
    let layer = Bytes::copy_from_slice(layer.as_bytes());
    let found = found::read(&manifest, |_| Some(layer.clone()));
    let found = found.first().ok_or_else(|| Refused::new("none", &"there is no signature"))?;
    if !asked.concerns(found) {
        return Err(Refused::new("none", &"it is not what is asked for"));
    }
    asked.holds(found, Digest::of(b"image"))?;
    Ok(())
}
