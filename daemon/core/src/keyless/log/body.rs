//! Bodies of Rekor's entries: what a log took in (facts/sigstore.md 6.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::digest::unhex;
use crate::key::PublicKey;
use crate::keyless::certificate::Certificate;
use crate::protojson::{FieldError, Json, Message};

const HASHES: [&str; 4] = ["HASH_ALGORITHM_UNSPECIFIED", "SHA2_256", "SHA2_384", "SHA2_512"];

/// A body, of whichever kind.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::keyless) struct Body {
    pub(in crate::keyless) dialect: Dialect,
    pub(in crate::keyless) kind: String,
    pub(in crate::keyless) version: String,
    /// The raw signature; `None` where only the hash of the whole envelope has it in (`intoto 0.0.1`).
    pub(in crate::keyless) signature: Option<Bytes>,
    pub(in crate::keyless) verifier: Verifier,
    /// Rekor v2's name of the kind of key.
    pub(in crate::keyless) key_details: Option<String>,
    pub(in crate::keyless) content: BodyContent,
}

/// Which Rekor writes such bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::keyless) enum Dialect {
    V1,
    V2,
}

/// Whom a body says that the signature is by.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::keyless) enum Verifier {
    /// A certificate, DER.
    Certificate(Bytes),
    /// A key.
    Key(PublicKey),
}

/// What a body says that the signature is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::keyless) enum BodyContent {
    /// The hash of what is signed.
    Message { algorithm: String, digest: Bytes },
    /// SHA-256 of an envelope's payload, and of the envelope as it was written.
    Envelope { payload_hash: Vec<u8>, envelope_hash: Option<Vec<u8>> },
}

/// Says why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::keyless) enum BodyError {
    #[error("its body is no JSON: {0}")]
    NotJson(String),
    #[error("its body is of the kind {0}, which is not known")]
    UnknownKind(String),
    #[error("its body's {0}")]
    Field(#[from] FieldError),
}

impl Body {
    pub(in crate::keyless) fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        let json = Json::parse(bytes).map_err(BodyError::NotJson)?;
        let mut top = Message::open(json, String::new())?;
        let kind = top.text("kind")?.unwrap_or_default();
        let version = top.text("apiVersion")?.unwrap_or_default();
        let mut spec = top.needed_message("spec")?;
        top.finish()?;
        let read = match (kind.as_str(), version.as_str()) {
            ("hashedrekord", "0.0.1") => hashedrekord_1(&mut spec)?,
            ("dsse", "0.0.1") => dsse_1(&mut spec)?,
            ("intoto", "0.0.1") => intoto_1(&mut spec)?,
            ("intoto", "0.0.2") => intoto_2(&mut spec)?,
            ("hashedrekord", "0.0.2") => hashedrekord_v2(spec)?,
            ("dsse", "0.0.2") => dsse_v2(spec)?,
            _ => return Err(BodyError::UnknownKind(crate::protojson::shown(&format!("{kind} {version}")))),
        };
        let dialect = if read.key_details.is_some() { Dialect::V2 } else { Dialect::V1 };
        let Read { signature, verifier, key_details, content } = read;
        Ok(Self { dialect, kind, version, signature, verifier, key_details, content })
    }
}

struct Read {
    signature: Option<Bytes>,
    verifier: Verifier,
    key_details: Option<String>,
    content: BodyContent,
}

fn hashedrekord_1(spec: &mut Message) -> Result<Read, FieldError> {
    let mut hash = spec.needed_message("data")?.needed_message("hash")?;
    let algorithm = hash.text("algorithm")?.unwrap_or_default();
    let digest = hex_value(&mut hash, "value")?;
    let mut signature = spec.needed_message("signature")?;
    let mut key = signature.needed_message("publicKey")?;
    let verifier = pem_verifier(&mut key, "content")?;
    if let Verifier::Certificate(der) = &verifier {
        Certificate::parse(der).map_err(|error| key.fault("content", format!("is no certificate: {error}")))?;
    }
    Ok(Read {
        signature: Some(signature.needed_bytes("content")?),
        verifier,
        key_details: None,
        content: BodyContent::Message { algorithm, digest: digest.into() },
    })
}

fn dsse_1(spec: &mut Message) -> Result<Read, FieldError> {
    let envelope_hash = sha256_value(spec, "envelopeHash")?;
    let payload_hash = sha256_value(spec, "payloadHash")?.ok_or_else(|| spec.fault("payloadHash", "is missing"))?;
    let mut signature = only(spec, "signatures")?;
    Ok(Read {
        signature: Some(signature.needed_bytes("signature")?),
        verifier: pem_verifier(&mut signature, "verifier")?,
        key_details: None,
        content: BodyContent::Envelope { payload_hash, envelope_hash },
    })
}

fn intoto_1(spec: &mut Message) -> Result<Read, FieldError> {
    let mut content = spec.needed_message("content")?;
    let envelope_hash = sha256_value(&mut content, "hash")?;
    let payload_hash =
        sha256_value(&mut content, "payloadHash")?.ok_or_else(|| content.fault("payloadHash", "is missing"))?;
    Ok(Read {
        signature: None,
        verifier: pem_verifier(spec, "publicKey")?,
        key_details: None,
        content: BodyContent::Envelope { payload_hash, envelope_hash },
    })
}

fn intoto_2(spec: &mut Message) -> Result<Read, FieldError> {
    let mut content = spec.needed_message("content")?;
    let envelope_hash = sha256_value(&mut content, "hash")?;
    let payload_hash =
        sha256_value(&mut content, "payloadHash")?.ok_or_else(|| content.fault("payloadHash", "is missing"))?;
    let mut signature = only(&mut content.needed_message("envelope")?, "signatures")?;
    // This kind has the signature in base64 twice.
    let once = signature.needed_bytes("sig")?;
    let twice = STANDARD.decode(&once).map_err(|_| signature.fault("sig", "is not base64 of base64"))?;
    Ok(Read {
        signature: Some(twice.into()),
        verifier: pem_verifier(&mut signature, "publicKey")?,
        key_details: None,
        content: BodyContent::Envelope { payload_hash, envelope_hash },
    })
}

fn hashedrekord_v2(mut spec: Message) -> Result<Read, FieldError> {
    let mut entry = spec.needed_message("hashedRekordV002")?;
    spec.finish()?;
    let (algorithm, digest) = hash_output(entry.needed_message("data")?)?;
    let signature = entry.needed_message("signature")?;
    entry.finish()?;
    let content = BodyContent::Message { algorithm: algorithm.to_owned(), digest };
    signed_v2(signature, content)
}

fn dsse_v2(mut spec: Message) -> Result<Read, FieldError> {
    let mut entry = spec.needed_message("dsseV002")?;
    spec.finish()?;
    let (algorithm, digest) = hash_output(entry.needed_message("payloadHash")?)?;
    if algorithm != "SHA2_256" {
        return Err(entry.fault("payloadHash", "is by another algorithm than SHA2_256"));
    }
    let signature = only(&mut entry, "signatures")?;
    entry.finish()?;
    signed_v2(signature, BodyContent::Envelope { payload_hash: digest.to_vec(), envelope_hash: None })
}

fn signed_v2(mut signature: Message, content: BodyContent) -> Result<Read, FieldError> {
    let raw = signature.needed_bytes("content")?;
    let mut verifier = signature.needed_message("verifier")?;
    signature.finish()?;
    let key_details = verifier.text("keyDetails")?.ok_or_else(|| verifier.fault("keyDetails", "is missing"))?;
    let certificate = raw_bytes(verifier.message("x509Certificate")?)?;
    let key = raw_bytes(verifier.message("publicKey")?)?;
    let found = match (certificate, key) {
        (Some(der), None) => Verifier::Certificate(der),
        (None, Some(der)) => Verifier::Key(
            PublicKey::from_der(&der).map_err(|error| verifier.fault("publicKey", format!("is no key: {error}")))?,
        ),
        _ => return Err(verifier.fault("verifier", "is neither one key nor one certificate")),
    };
    verifier.finish()?;
    Ok(Read { signature: Some(raw), verifier: found, key_details: Some(key_details), content })
}

fn raw_bytes(wire: Option<Message>) -> Result<Option<Bytes>, FieldError> {
    let Some(mut wire) = wire else { return Ok(None) };
    let bytes = wire.needed_bytes("rawBytes")?;
    wire.finish()?;
    Ok(Some(bytes))
}

fn hash_output(mut wire: Message) -> Result<(&'static str, Bytes), FieldError> {
    let algorithm = wire.choice("algorithm", &HASHES)?;
    let digest = wire.needed_bytes("digest")?;
    wire.finish()?;
    Ok((algorithm, digest))
}

/// Takes the one item of a list.
fn only(wire: &mut Message, name: &str) -> Result<Message, FieldError> {
    let mut list = wire.messages(name, 1)?;
    list.pop().ok_or_else(|| wire.fault(name, "is empty"))
}

fn hex_value(wire: &mut Message, name: &str) -> Result<Vec<u8>, FieldError> {
    let text = wire.text(name)?.unwrap_or_default();
    unhex(&text).filter(|hash| !hash.is_empty()).ok_or_else(|| wire.fault(name, "is no hash in hex"))
}

/// Takes `{algorithm: sha256, value: HEX}`; absent is `None`.
fn sha256_value(wire: &mut Message, name: &str) -> Result<Option<Vec<u8>>, FieldError> {
    let Some(mut hash) = wire.message(name)? else { return Ok(None) };
    match hash.text("algorithm")?.as_deref() {
        Some("sha256") => hex_value(&mut hash, "value").map(Some),
        _ => Err(hash.fault("algorithm", "is not sha256")),
    }
}

/// Takes a certificate or a key: PEM, in base64.
fn pem_verifier(wire: &mut Message, name: &str) -> Result<Verifier, FieldError> {
    let text = wire.needed_bytes(name)?;
    let block = pem::parse(&text).map_err(|_| wire.fault(name, "is no PEM"))?;
    if block.tag() == "CERTIFICATE" {
        return Ok(Verifier::Certificate(block.into_contents().into()));
    }
    let key = PublicKey::from_pem(&text).map_err(|error| wire.fault(name, format!("is no key: {error}")))?;
    Ok(Verifier::Key(key))
}
