//! Evidence as cosign's classic formats write it: annotations of `.sig` and `.att` layers, and the bundle of old
//! `sign-blob` (facts/sigstore.md 2.2, 4.3, 5.4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::log::Body;
use crate::digest::unhex;
use crate::protojson::{FieldError, Json, Message};
use crate::signature::bundle::{LogEntry, MAX_CHAIN};

/// The most bytes that an annotation, or such a bundle, may have: a body, a certificate and a signature.
const MAX_BYTES: usize = 1 << 20;

/// Says why an annotation cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// It is longer than 1 MiB.
    #[error("it has {0} bytes; at most 1 MiB is read")]
    TooLong(usize),
    /// It is no JSON, or has a field twice.
    #[error("it is no JSON: {0}")]
    NotJson(String),
    /// A field is missing, or not as it must be.
    #[error("its {0}")]
    Field(#[from] FieldError),
    /// It holds no certificate in PEM, or too many.
    #[error("it is no PEM with one to {MAX_CHAIN} certificates")]
    NoCertificates,
}

/// The file that old `cosign sign-blob --bundle` wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalBundle {
    /// The raw signature.
    pub signature: Bytes,
    /// The signer's certificate, for [`certificates`]; or a key, which is never believed.
    pub certificate: Option<Bytes>,
    /// The entry of the log; one that cannot be read matters only where entries are asked for.
    pub entry: Option<Result<LogEntry, AnnotationError>>,
}

impl LocalBundle {
    /// Says whether a document looks like one: it is for [`LocalBundle::parse`], not for
    /// [`Bundle::parse`](crate::signature::bundle::Bundle::parse).
    pub fn is_one(bytes: &[u8]) -> bool {
        let json = if bytes.len() > MAX_BYTES { Err(String::new()) } else { Json::parse(bytes) };
        matches!(json, Ok(Json::Object(fields)) if fields.iter().any(|(name, _)| name == "base64Signature"))
    }

    /// Parses one.
    ///
    /// # Errors
    /// Fails where it has no signature, or a field is not as it must be.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnnotationError> {
        let mut top = open(bytes)?;
        let signature = standard_bytes(&mut top, "base64Signature")?;
        let certificate = top.text("cert")?.filter(|text| !text.is_empty()).map(|text| Bytes::from(text.into_bytes()));
        let entry = top.message("rekorBundle")?.map(|entry| read_entry(entry).map_err(AnnotationError::from));
        Ok(Self { signature, certificate, entry })
    }
}

/// Reads the annotation `dev.sigstore.cosign/bundle`: Rekor's entry with its promise, without a proof.
///
/// # Errors
/// Fails where a field is missing or not as it must be.
pub fn log_entry(bytes: &[u8]) -> Result<LogEntry, AnnotationError> {
    Ok(read_entry(open(bytes)?)?)
}

/// Reads the annotation `dev.sigstore.cosign/rfc3161timestamp`: a TimeStampResp, DER.
///
/// # Errors
/// Fails where it holds none.
pub fn timestamp(bytes: &[u8]) -> Result<Bytes, AnnotationError> {
    Ok(standard_bytes(&mut open(bytes)?, "SignedRFC3161Timestamp")?)
}

/// Reads the annotations `dev.sigstore.cosign/certificate` and `chain`, and PEM files, in base64 or not: certificates, DER,
/// in their order.
///
/// # Errors
/// Fails where there is none, more than ten, or anything else than certificates.
pub fn certificates(text: &[u8]) -> Result<Vec<Bytes>, AnnotationError> {
    if text.len() > MAX_BYTES {
        return Err(AnnotationError::TooLong(text.len()));
    }
    // `cosign sign-blob --output-certificate` wrote the PEM in base64 once more.
    let inner = str::from_utf8(text).ok().and_then(|text| standard(text.trim()));
    let blocks = pem::parse_many(inner.as_deref().unwrap_or(text)).map_err(|_| AnnotationError::NoCertificates)?;
    let are_certificates = blocks.iter().all(|block| block.tag() == "CERTIFICATE");
    if !are_certificates || !(1..=MAX_CHAIN).contains(&blocks.len()) {
        return Err(AnnotationError::NoCertificates);
    }
    Ok(blocks.into_iter().map(|block| Bytes::from(block.into_contents())).collect())
}

fn open(bytes: &[u8]) -> Result<Message, AnnotationError> {
    if bytes.len() > MAX_BYTES {
        return Err(AnnotationError::TooLong(bytes.len()));
    }
    let json = Json::parse(bytes).map_err(AnnotationError::NotJson)?;
    Ok(Message::open_plain(json)?)
}

/// Takes bytes that must be there, in the one form of base64 that Go's encoding/json reads.
fn standard_bytes(message: &mut Message, name: &str) -> Result<Bytes, FieldError> {
    let text = message.text(name)?.filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| message.fault(name, "is missing"))?;
    standard(&text).ok_or_else(|| message.fault(name, "is no base64"))
}

fn standard(text: &str) -> Option<Bytes> {
    STANDARD.decode(text.replace(['\r', '\n'], "")).ok().map(Bytes::from)
}

fn read_entry(mut wire: Message) -> Result<LogEntry, FieldError> {
    let promise = standard_bytes(&mut wire, "SignedEntryTimestamp")?;
    let mut payload = wire.needed_message("Payload")?;
    let body = standard_bytes(&mut payload, "body")?;
    let integrated_time = Some(payload.number("integratedTime")?).filter(|time| *time != 0);
    let log_index = payload.number("logIndex")?;
    let log_id = payload.text("logID")?.and_then(|id| unhex(&id)).filter(|id| !id.is_empty());
    let log_id = log_id.ok_or_else(|| payload.fault("logID", "is missing, or no hex"))?.into();
    // This format does not repeat what the body says.
    let (kind, kind_version) = Body::parse(&body).map(|body| (body.kind, body.version)).unwrap_or_default();
    Ok(LogEntry { log_index, log_id, kind, kind_version, integrated_time, promise: Some(promise), proof: None, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_missing_are_named() {
        for (text, words) in [
            ("{}", "SignedEntryTimestamp is missing"),
            (r#"{"SignedEntryTimestamp":"AQ=="}"#, "Payload is missing"),
            (r#"{"SignedEntryTimestamp":"AQ==","Payload":{"logID":"00"}}"#, "Payload.body is missing"),
            (r#"{"SignedEntryTimestamp":"AQ==","Payload":{"body":"e30="}}"#, "Payload.logID is missing"),
            (r#"{"SignedEntryTimestamp":"AQ==","Payload":{"body":"e30=","logID":"00","logIndex":-1}}"#, "is negative"),
            ("[]", "is a list"),
            ("", "no JSON"),
        ] {
            let error = log_entry(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let entry = log_entry(br#"{"SignedEntryTimestamp":"AQ==","Payload":{"body":"e30=","integratedTime":5,"logIndex":7,"logID":"0a"}}"#);
        let entry = entry.expect("an entry");
        assert_eq!((entry.log_index, entry.integrated_time, &entry.log_id[..]), (7, Some(5), &[10][..]));
        assert_eq!(timestamp(br#"{"SignedRFC3161Timestamp":"AQ=="}"#), Ok(Bytes::from_static(&[1])));
        assert!(timestamp(br#"{"SignedRFC3161Timestamp":""}"#).is_err());
        assert!(LocalBundle::is_one(br#"{"base64Signature":"AQ=="}"#) && !LocalBundle::is_one(br#"{"mediaType":"x"}"#));
        assert_eq!(certificates(b"nothing"), Err(AnnotationError::NoCertificates));
    }
}
