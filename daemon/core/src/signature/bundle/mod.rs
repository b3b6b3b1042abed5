//! Sigstore bundles, v0.1 to v0.3: a signature with everything that is needed to check it offline.
//!
//! [`Bundle::parse`] takes bytes from anywhere and gives a bundle of a known shape and bounded size, or names the field
//! that is not as it must be. Whether anything in it is true is not asked here: what was signed is
//! [`Content`], who claims to have signed it is [`Material`], and who is said to have witnessed it are the
//! [`LogEntry`]s and timestamps.

mod entry;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub(super) use entry::EntryJson;
pub use entry::{InclusionProof, LogEntry, MAX_ENTRY_BYTES};

use super::dsse::{Envelope, MAX_SIGNATURE_BYTES};
use crate::protojson::{FieldError, Json, Message, shown};

/// The most bytes that a bundle may have, in JSON: cosign's own limit for what is attached to an image.
pub const MAX_BUNDLE_BYTES: usize = 128 << 20;
/// The most log entries that a bundle may have, as in sigstore-go.
pub const MAX_ENTRIES: usize = 32;
/// The most timestamps that a bundle may have, as in sigstore-go.
pub const MAX_TIMESTAMPS: usize = 32;
/// The most certificates that a chain may have.
pub const MAX_CHAIN: usize = 10;
/// The most bytes that a certificate may have.
pub const MAX_CERTIFICATE_BYTES: usize = 64 << 10;
/// The most bytes that a timestamp may have; one with its whole chain has about 6 KiB.
pub const MAX_TIMESTAMP_BYTES: usize = 64 << 10;

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";
const HASHES: [&str; 6] = ["HASH_ALGORITHM_UNSPECIFIED", "SHA2_256", "SHA2_384", "SHA2_512", "SHA3_256", "SHA3_384"];

/// A bundle, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Its version.
    pub version: Version,
    /// What the signature is to be checked with.
    pub material: Material,
    /// The transparency log's entries.
    pub entries: Vec<LogEntry>,
    /// RFC 3161 TimeStampResps over the signature, DER.
    pub timestamps: Vec<Bytes>,
    /// What is signed, and the signature.
    pub content: Content,
}

/// A bundle's version; later digits (v0.3.1) make no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// v0.1: entries have promises.
    V01,
    /// v0.2: entries have proofs.
    V02,
    /// v0.3: one certificate in place of a chain.
    V03,
}

/// What a bundle says that its signature is to be checked with. A claim: it widens nobody's trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// A key that the reader has; the hint is cosign's SHA-256 of it, or anything.
    PublicKey {
        /// The hint.
        hint: String,
    },
    /// The signer's certificate, DER.
    Certificate(Bytes),
    /// The signer's certificate first, then others, DER. In v0.3 cosign takes it only where it is asked to.
    Chain(Vec<Bytes>),
}

impl Material {
    /// Returns the signer's certificate, where there is one.
    pub fn leaf(&self) -> Option<&Bytes> {
        match self {
            Self::PublicKey { .. } => None,
            Self::Certificate(certificate) => Some(certificate),
            Self::Chain(chain) => chain.first(),
        }
    }
}

/// What a bundle signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A payload that the bundle brings.
    Envelope(Envelope),
    /// A message that the reader has.
    Message {
        /// The message's digest as the signer gave it; it must fit.
        digest: Option<MessageDigest>,
        /// The raw signature.
        signature: Bytes,
    },
}

/// A digest as a bundle gives it; the length is not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageDigest {
    /// Protobuf's name of the algorithm, as `SHA2_256`.
    pub algorithm: &'static str,
    /// The hash value.
    pub value: Bytes,
}

/// Says why bytes are no bundle that Larder reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is longer than [`MAX_BUNDLE_BYTES`].
    #[error("the bundle has {0} bytes; at most 128 MiB are read")]
    TooLong(usize),
    /// It is no JSON, or has a field twice.
    #[error("the bundle is no JSON: {0}")]
    NotJson(String),
    /// It is of a media type or version that is not known.
    #[error("{0:?} is no bundle's media type that is known (v0.1 to v0.3 are)")]
    MediaType(String),
    /// A field is missing, doubled, unknown, or not as it must be.
    #[error("the bundle's {0}")]
    Field(#[from] FieldError),
}

impl BundleError {
    /// Returns the stable name of the fault.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "bundle-too-long",
            Self::NotJson(_) => "bundle-not-json",
            Self::MediaType(_) => "bundle-version",
            Self::Field(_) => "bundle-field",
        }
    }
}

impl Bundle {
    /// Parses a bundle (sigstore_bundle.proto, by protobuf's JSON).
    ///
    /// A chain is read in every version: whether v0.3 may bring one is for whoever checks it to say.
    ///
    /// # Errors
    /// Fails with the first field that is missing, doubled, unknown, out of bounds or of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLong(bytes.len()));
        }
        let json = Json::parse(bytes).map_err(BundleError::NotJson)?;
        let mut top = Message::open(json, String::new())?;
        let media_type = top.text("mediaType")?.unwrap_or_default();
        let version = version(&media_type).ok_or_else(|| BundleError::MediaType(shown(&media_type)))?;
        let mut wire = top.needed_message("verificationMaterial")?;
        let material = material(&mut wire)?;
        let entries = wire.messages("tlogEntries", MAX_ENTRIES)?;
        let entries = entries.into_iter().map(LogEntry::read).collect::<Result<Vec<_>, _>>()?;
        let has_what_the_version_asks = match version {
            Version::V01 => entries.iter().any(|entry| entry.promise.is_some()),
            Version::V02 | Version::V03 => entries.iter().any(|entry| entry.proof.is_some()),
        };
        if !entries.is_empty() && !has_what_the_version_asks {
            let what = if version == Version::V01 { "promise" } else { "proof" };
            return Err(wire.fault("tlogEntries", format!("has no entry with an inclusion {what}")).into());
        }
        let timestamps = timestamps(&mut wire)?;
        wire.finish()?;
        let content = content(&mut top)?;
        top.finish()?;
        Ok(Self { version, material, entries, timestamps, content })
    }
}

fn version(media_type: &str) -> Option<Version> {
    let rest = media_type.strip_prefix(MEDIA_TYPE)?;
    let version = match rest.strip_prefix("+json;version=") {
        Some(version @ ("0.1" | "0.2" | "0.3")) => version,
        Some(_) => return None,
        None => rest.strip_prefix(".v")?.strip_suffix("+json")?,
    };
    let numbers: Vec<&str> = version.split('.').collect();
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match numbers.as_slice() {
        ["0", minor] | ["0", minor, _] if numbers.iter().all(is_number) => match *minor {
            "1" => Some(Version::V01),
            "2" => Some(Version::V02),
            "3" => Some(Version::V03),
            _ => None,
        },
        _ => None,
    }
}

fn material(wire: &mut Message) -> Result<Material, FieldError> {
    let mut found = Vec::with_capacity(1);
    if let Some(mut key) = wire.message("publicKey")? {
        found.push(Material::PublicKey { hint: key.text("hint")?.unwrap_or_default() });
        key.finish()?;
    }
    if let Some(certificate) = wire.message("certificate")? {
        found.push(Material::Certificate(certificate_bytes(certificate)?));
    }
    if let Some(mut chain) = wire.message("x509CertificateChain")? {
        let certificates = chain.messages("certificates", MAX_CHAIN)?;
        if certificates.is_empty() {
            return Err(chain.fault("certificates", "is empty"));
        }
        let certificates = certificates.into_iter().map(certificate_bytes);
        found.push(Material::Chain(certificates.collect::<Result<_, _>>()?));
        chain.finish()?;
    }
    match found.pop() {
        Some(material) if found.is_empty() => Ok(material),
        Some(_) => Err(wire.fault("content", "is there twice: a key, a certificate or a chain, and one of them only")),
        None => Err(wire.fault("content", "is missing: there is neither a key nor a certificate")),
    }
}

fn certificate_bytes(mut wire: Message) -> Result<Bytes, FieldError> {
    let bytes = wire.needed_bytes("rawBytes")?;
    if bytes.len() > MAX_CERTIFICATE_BYTES {
        return Err(wire.fault("rawBytes", "is longer than 64 KiB"));
    }
    wire.finish()?;
    Ok(bytes)
}

fn timestamps(wire: &mut Message) -> Result<Vec<Bytes>, FieldError> {
    let Some(mut data) = wire.message("timestampVerificationData")? else { return Ok(Vec::new()) };
    let list = data.messages("rfc3161Timestamps", MAX_TIMESTAMPS)?;
    data.finish()?;
    let read = |mut timestamp: Message| {
        let bytes = timestamp.bytes("signedTimestamp")?.unwrap_or_default();
        if bytes.len() > MAX_TIMESTAMP_BYTES {
            return Err(timestamp.fault("signedTimestamp", "is longer than 64 KiB"));
        }
        timestamp.finish()?;
        Ok(bytes)
    };
    list.into_iter().map(read).collect()
}

fn content(top: &mut Message) -> Result<Content, FieldError> {
    match (top.message("messageSignature")?, top.message("dsseEnvelope")?) {
        (Some(message), None) => message_content(message),
        (None, Some(envelope)) => Ok(Content::Envelope(read_envelope(envelope)?)),
        (Some(_), Some(_)) => {
            Err(top.fault("content", "is there twice: a message signature or an envelope, and one of them only"))
        }
        (None, None) => Err(top.fault("content", "is missing: there is neither a message signature nor an envelope")),
    }
}

fn message_content(mut message: Message) -> Result<Content, FieldError> {
    let digest = match message.message("messageDigest")? {
        None => None,
        Some(mut digest) => {
            let algorithm = digest.choice("algorithm", &HASHES)?;
            let value = digest.bytes("digest")?.unwrap_or_default();
            digest.finish()?;
            Some(MessageDigest { algorithm, value })
        }
    };
    let signature = signature_bytes(&mut message, "signature")?;
    message.finish()?;
    Ok(Content::Message { digest, signature })
}

fn read_envelope(mut envelope: Message) -> Result<Envelope, FieldError> {
    let payload = envelope.bytes("payload")?.unwrap_or_default();
    let payload_type = envelope.text_of_one_name("payloadType")?.unwrap_or_default();
    let mut signatures = envelope.messages("signatures", MAX_ENTRIES)?;
    let count = signatures.len();
    let (1, Some(mut signature)) = (count, signatures.pop()) else {
        return Err(envelope.fault("signatures", format!("has {count} items; exactly one is read")));
    };
    let raw = signature_bytes(&mut signature, "sig")?;
    let key_id = signature.text("keyid")?.filter(|key_id| !key_id.is_empty());
    signature.finish()?;
    envelope.finish()?;
    Ok(Envelope { payload_type, payload, signature: raw, key_id })
}

fn signature_bytes(message: &mut Message, name: &str) -> Result<Bytes, FieldError> {
    let bytes = message.needed_bytes(name)?;
    if bytes.len() > MAX_SIGNATURE_BYTES { Err(message.fault(name, "is longer than 16 KiB")) } else { Ok(bytes) }
}
