//! DSSE envelopes and the in-toto statements in them.
//!
//! An [`Envelope`] is what was signed, in the form of cosign's classic `.att` layers; a bundle brings the same thing in its
//! own form ([`bundle`](super::bundle)). A [`Statement`] is what the signed bytes say, read only when somebody asks.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::Digest;
use crate::protojson::{Json, shown};

/// The most bytes that an envelope may have, in JSON: cosign's own limit.
pub const MAX_ENVELOPE_BYTES: usize = 128 << 20;
/// The most bytes that a raw signature may have; the longest that Larder checks has 1 KiB (RSA of 8192 bits).
pub const MAX_SIGNATURE_BYTES: usize = 16 << 10;
/// The most subjects that a statement may have.
pub const MAX_SUBJECTS: usize = 1024;
/// The most digests that a subject may have.
pub const MAX_DIGESTS: usize = 32;

/// The payload type of in-toto statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The predicate type by which cosign's bundles sign an image.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"];

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

/// A signed payload (DSSE 1.0), with its one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload is; [`IN_TOTO`] for attestations.
    pub payload_type: String,
    /// The payload, decoded.
    pub payload: Bytes,
    /// The raw signature over [`Envelope::pae`].
    pub signature: Bytes,
    /// The signer's name for its key; never an authority. An empty one is none.
    pub key_id: Option<String>,
}

/// Says why bytes are no envelope that Larder reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is longer than [`MAX_ENVELOPE_BYTES`].
    #[error("the envelope has {0} bytes; at most 128 MiB are read")]
    TooLong(usize),
    /// It is no JSON, or not of this shape.
    #[error("the envelope is malformed: {0}")]
    Malformed(String),
    /// A field is missing.
    #[error("the envelope has no {0}")]
    Missing(&'static str),
    /// A field is no base64.
    #[error("the envelope's {0} is no base64")]
    NotBase64(&'static str),
    /// It has no signature, or several.
    #[error("the envelope has {0} signatures; exactly one is read")]
    Signatures(usize),
    /// Its signature is longer than any that Larder checks.
    #[error("the envelope's signature has {0} bytes; at most 16 KiB are read")]
    LongSignature(usize),
}

impl EnvelopeError {
    /// Returns the stable name of the fault.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "envelope-too-long",
            Self::Malformed(_) => "envelope-malformed",
            Self::Missing(_) => "envelope-incomplete",
            Self::NotBase64(_) => "envelope-not-base64",
            Self::Signatures(_) => "envelope-signatures",
            Self::LongSignature(_) => "envelope-signature-too-long",
        }
    }
}

impl Envelope {
    /// Parses a classic envelope, in any order of fields; base64 is standard or URL-safe (DSSE, "Parameters").
    ///
    /// # Errors
    /// Fails for anything but one payload with one signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLong(bytes.len()));
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| EnvelopeError::Malformed(error.to_string()))?;
        let signatures = wire.signatures.unwrap_or_default();
        let count = signatures.len();
        let (1, Some(signature)) = (count, signatures.into_iter().next()) else {
            return Err(EnvelopeError::Signatures(count));
        };
        let payload_type = wire.payload_type.ok_or(EnvelopeError::Missing("payloadType"))?;
        let payload = wire.payload.ok_or(EnvelopeError::Missing("payload"))?;
        let payload = decode(&payload).ok_or(EnvelopeError::NotBase64("payload"))?;
        let raw = signature.sig.filter(|sig| !sig.is_empty()).ok_or(EnvelopeError::Missing("signature"))?;
        let raw = decode(&raw).ok_or(EnvelopeError::NotBase64("signature"))?;
        if raw.len() > MAX_SIGNATURE_BYTES {
            return Err(EnvelopeError::LongSignature(raw.len()));
        }
        let key_id = signature.keyid.filter(|key_id| !key_id.is_empty());
        Ok(Self { payload_type, payload, signature: raw, key_id })
    }

    /// Returns the bytes that are signed: DSSE's pre-authentication encoding.
    pub fn pae(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }
}

/// Writes DSSE's pre-authentication encoding of a payload (DSSE, protocol.md, "Signature Definition").
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Decodes base64 of the standard alphabet, else of the URL-safe one.
fn decode(text: &str) -> Option<Bytes> {
    let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    decoded.ok().map(Bytes::from)
}

/// An envelope as it is written. serde refuses a field that is there twice; unknown ones are DSSE's to add.
#[derive(serde::Deserialize)]
struct Wire {
    #[serde(rename = "payloadType")]
    payload_type: Option<String>,
    payload: Option<String>,
    signatures: Option<Vec<WireSignature>>,
}

#[derive(serde::Deserialize)]
struct WireSignature {
    keyid: Option<String>,
    sig: Option<String>,
}

/// What an attestation says about which artifacts (in-toto Statement v0.1 and v1), its predicate left unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it is about.
    pub subjects: Vec<Subject>,
    /// What kind of statement it is, as an URI.
    pub predicate_type: String,
}

/// An artifact that a statement is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its name; shown, not compared.
    pub name: Option<String>,
    /// Its digests by the algorithms that Larder knows; others are left out.
    pub digests: Vec<Digest>,
    /// cosign's annotations: those that are text.
    pub annotations: BTreeMap<String, String>,
}

/// Says why signed bytes are no statement that Larder reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// It is no JSON, not of this shape, or beyond a limit.
    #[error("the statement is malformed: {0}")]
    Malformed(String),
    /// It is of another type than in-toto's statements v0.1 and v1.
    #[error("the statement is of the unknown type {0:?}")]
    UnknownType(String),
    /// A field is missing.
    #[error("the statement has no {0}")]
    Missing(&'static str),
}

impl StatementError {
    /// Returns the stable name of the fault.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "statement-malformed",
            Self::UnknownType(_) => "statement-type",
            Self::Missing(_) => "statement-incomplete",
        }
    }
}

impl Statement {
    /// Parses a statement; its predicate is passed over, however long it is.
    ///
    /// # Errors
    /// Fails for what is no statement, for a field that is there twice, and beyond [`MAX_SUBJECTS`] and [`MAX_DIGESTS`].
    pub fn parse(payload: &[u8]) -> Result<Self, StatementError> {
        let wire: WireStatement =
            serde_json::from_slice(payload).map_err(|error| StatementError::Malformed(error.to_string()))?;
        let kind = wire.kind.ok_or(StatementError::Missing("_type"))?;
        if !STATEMENTS.contains(&kind.as_str()) {
            return Err(StatementError::UnknownType(shown(&kind)));
        }
        let predicate_type = wire.predicate_type.ok_or(StatementError::Missing("predicateType"))?;
        Ok(Self { subjects: wire.subjects.unwrap_or_default(), predicate_type })
    }

    /// Reads the predicate out of the same payload; `Null` where there is none.
    ///
    /// # Errors
    /// Fails where the payload is no JSON object, has a field twice at any depth, or is deeper than 128.
    pub fn predicate(payload: &[u8]) -> Result<serde_json::Value, StatementError> {
        match Json::parse(payload).map_err(StatementError::Malformed)? {
            Json::Object(fields) => {
                let predicate = fields.into_iter().find(|(name, _)| name == "predicate");
                Ok(predicate.map(|(_, json)| json.into()).unwrap_or_default())
            }
            _ => Err(StatementError::Malformed("it is no object".to_owned())),
        }
    }

    /// Says whether one of its subjects has this digest.
    pub fn names(&self, digest: &Digest) -> bool {
        self.subjects.iter().any(|subject| subject.digests.contains(digest))
    }
}

/// A statement as it is written; fields that are not named are in-toto's to add.
#[derive(Default)]
struct WireStatement {
    kind: Option<String>,
    predicate_type: Option<String>,
    subjects: Option<Vec<Subject>>,
}

impl<'de> Deserialize<'de> for WireStatement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StatementVisitor)
    }
}

struct StatementVisitor;

impl<'de> Visitor<'de> for StatementVisitor {
    type Value = WireStatement;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an in-toto statement")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<WireStatement, A::Error> {
        let mut wire = WireStatement::default();
        let mut has_predicate = false;
        while let Some(name) = entries.next_key::<String>()? {
            let is_new = match name.as_str() {
                "_type" => wire.kind.replace(entries.next_value()?).is_none(),
                "predicateType" => wire.predicate_type.replace(entries.next_value()?).is_none(),
                "subject" => {
                    let subjects = entries.next_value::<Option<Subjects>>()?.map(|subjects| subjects.0);
                    wire.subjects.replace(subjects.unwrap_or_default()).is_none()
                }
                "predicate" => {
                    entries.next_value::<IgnoredAny>()?;
                    !std::mem::replace(&mut has_predicate, true)
                }
                _ => {
                    entries.next_value::<IgnoredAny>()?;
                    true
                }
            };
            if !is_new {
                return Err(de::Error::custom(format_args!("the field {name:?} is there twice")));
            }
        }
        Ok(wire)
    }
}

/// A list that stops at its limit: a stranger's list is not read to its end only to be refused.
struct Subjects(Vec<Subject>);

impl<'de> Deserialize<'de> for Subjects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Subjects;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of subjects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Subjects, A::Error> {
                let mut subjects = Vec::new();
                while let Some(wire) = items.next_element::<WireSubject>()? {
                    if subjects.len() == MAX_SUBJECTS {
                        return Err(de::Error::custom(format_args!("it has more than {MAX_SUBJECTS} subjects")));
                    }
                    subjects.push(Subject {
                        name: wire.name,
                        digests: wire.digest.unwrap_or_default().0,
                        annotations: wire.annotations.unwrap_or_default().0,
                    });
                }
                Ok(Subjects(subjects))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[derive(serde::Deserialize)]
struct WireSubject {
    name: Option<String>,
    digest: Option<Digests>,
    annotations: Option<Annotations>,
}

#[derive(Default)]
struct Digests(Vec<Digest>);

impl<'de> Deserialize<'de> for Digests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mut names, mut digests) = (Vec::<String>::new(), Vec::new());
        let each = |name: String, value: &str| {
            if names.contains(&name) {
                return Err(format!("the digest {:?} is there twice", shown(&name)));
            }
            if names.len() == MAX_DIGESTS {
                return Err(format!("a subject has more than {MAX_DIGESTS} digests"));
            }
            if matches!(name.as_str(), "sha256" | "sha512") {
                let digest = format!("{name}:{}", value.to_ascii_lowercase()).parse();
                digests.push(digest.map_err(|error: crate::digest::DigestError| error.to_string())?);
            }
            names.push(name);
            Ok(())
        };
        deserializer.deserialize_map(Entries(each))?;
        Ok(Self(digests))
    }
}

#[derive(Default)]
struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Json::Object(fields) = Json::deserialize(deserializer)? else {
            return Err(de::Error::custom("a subject's annotations are no object"));
        };
        let texts = fields.into_iter().filter_map(|(name, json)| match json {
            Json::Text(text) => Some((name, text)),
            _ => None,
        });
        Ok(Self(texts.collect()))
    }
}

/// Hands each entry of a map of texts to a function, which may refuse it.
struct Entries<F>(F);

impl<'de, F: FnMut(String, &str) -> Result<(), String>> Visitor<'de> for Entries<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value::<String>()?;
            (self.0)(name, &value).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str =
        r#"{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"","sig":"AQI="}]}"#;
    const V3: &str = r#"{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AQI="}]}"#;
    const HEX: &str = "2640004483400099caaf561d540c6f3feb82d56361b8bdd9f0cc19432c31f0fc";

    fn statement(subject: &str) -> String {
        format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":{subject},"predicateType":"p","predicate":{{"a":1}}}}"#
        )
    }

    #[test]
    fn both_orders_of_fields_are_read() {
        let envelope = Envelope::parse(V2.as_bytes()).expect("version 2's");
        assert_eq!(Envelope::parse(V3.as_bytes()).as_ref(), Ok(&envelope));
        assert_eq!(envelope.key_id, None);
        assert_eq!(envelope.pae(), b"DSSEv1 28 application/vnd.in-toto+json 2 {}");
        let hello = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(hello, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn bad_envelopes_are_named() {
        let cases = [
            ("", "envelope-malformed"),
            ("[]", "envelope-malformed"),
            (r#"{"signatures":[{"sig":"AQI="}],"payloadType":"t"}"#, "envelope-incomplete"),
            (r#"{"signatures":[{"sig":"AQI="}],"payload":"e30="}"#, "envelope-incomplete"),
            (r#"{"payload":"e30=","payloadType":"t"}"#, "envelope-signatures"),
            (r#"{"payload":"e30=","payloadType":"t","signatures":[]}"#, "envelope-signatures"),
            (
                r#"{"payload":"e30=","payloadType":"t","signatures":[{"sig":"AQI="},{"sig":"AQI="}]}"#,
                "envelope-signatures",
            ),
            (r#"{"payload":"e30=","payloadType":"t","signatures":[{"sig":""}]}"#, "envelope-incomplete"),
            (r#"{"payload":"%","payloadType":"t","signatures":[{"sig":"AQI="}]}"#, "envelope-not-base64"),
            (
                r#"{"payload":"e30=","payload":"e30=","payloadType":"t","signatures":[{"sig":"AQI="}]}"#,
                "envelope-malformed",
            ),
        ];
        for (text, reason) in cases {
            assert_eq!(Envelope::parse(text.as_bytes()).expect_err(text).reason(), reason, "{text}");
        }
    }

    #[test]
    fn statements_are_read_in_any_order() {
        let subject = format!(
            r#"[{{"name":"n","digest":{{"sha256":"{HEX}","gitCommit":"x"}},"annotations":{{"a":"b","n":1}}}}]"#
        );
        let read = Statement::parse(statement(&subject).as_bytes()).expect("a statement");
        let digest = format!("sha256:{HEX}").parse().expect("a digest");
        assert!(read.names(&digest));
        assert_eq!(read.subjects[0].annotations, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        let other = format!(
            r#"{{"predicate":null,"predicateType":"p","subject":{subject},"_type":"https://in-toto.io/Statement/v0.1"}}"#
        );
        assert_eq!(Statement::parse(other.as_bytes()), Ok(read));
        assert_eq!(Statement::predicate(statement("[]").as_bytes()), Ok(serde_json::json!({"a": 1})));
    }

    #[test]
    fn bad_statements_are_refused() {
        let many = format!("[{}]", vec!["{}"; MAX_SUBJECTS + 1].join(","));
        let digests: Vec<_> = (0..=MAX_DIGESTS).map(|n| format!(r#""d{n}":"x""#)).collect();
        let crowded = format!(r#"[{{"digest":{{{}}}}}]"#, digests.join(","));
        let doubled = format!(r#"[{{"digest":{{"sha256":"{HEX}","sha256":"{HEX}"}}}}]"#);
        for subject in [many.as_str(), &crowded, &doubled, r#"[{"digest":{"sha256":"ab"}}]"#, r#"[{"digest":7}]"#, "7"]
        {
            let error = Statement::parse(statement(subject).as_bytes()).expect_err(subject);
            assert_eq!(error.reason(), "statement-malformed");
        }
        for text in [r#"{"_type":"x","predicateType":"p"}"#, r#"{"predicateType":"p"}"#] {
            assert!(Statement::parse(text.as_bytes()).is_err());
        }
        let twice = statement("[]").replace(r#""predicateType""#, r#""predicateType":"q","predicateType""#);
        assert!(Statement::parse(twice.as_bytes()).is_err());
        assert!(Statement::predicate(br#"{"predicate":{"a":1,"a":2}}"#).is_err());
    }
}
