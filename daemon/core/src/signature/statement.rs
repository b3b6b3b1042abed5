//! What a signature says: in-toto statements, and the bytes that are signed for them (facts/sigstore.md 4.2).
//!
//! One statement names one digest. A *signature* is a statement of cosign's own predicate type; anything else is an
//! *attestation*. What is written here is read back strictly by [`read`], for it is only ever read by who wrote it.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::dsse::COSIGN_SIGN;
use super::go_json;
use crate::digest::Digest;

/// The most bytes that a predicate may have: a gRPC message holds it, and base64 makes it a third longer.
pub const MAX_PREDICATE_BYTES: usize = 16 << 20;
/// The most bytes that a predicate type may have.
pub const MAX_PREDICATE_TYPE_BYTES: usize = 256;

/// The `_type` of signatures.
const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
/// The `_type` of attestations: cosign writes the older one still.
const STATEMENT_V01: &str = "https://in-toto.io/Statement/v0.1";

/// Says why something cannot be attested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The predicate is longer than [`MAX_PREDICATE_BYTES`].
    #[error("the predicate has {0} bytes; at most 16 MiB are attested")]
    TooLong(usize),
    /// The predicate is no JSON.
    #[error("the predicate is no JSON value: {0}")]
    NotJson(String),
    /// The predicate type is empty, too long, or has characters that could steer a terminal.
    #[error("the predicate type is no URI")]
    PredicateType,
    /// The predicate type is a signature's.
    #[error("{COSIGN_SIGN} is the predicate type of signatures, not of attestations")]
    Signature,
}

#[derive(Serialize)]
struct Signing<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: [SignedSubject<'a>; 1],
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    predicate: Empty,
}

#[derive(Serialize)]
struct SignedSubject<'a> {
    digest: BTreeMap<&'static str, String>,
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct AttestedSubject<'a> {
    name: &'a str,
    digest: BTreeMap<&'static str, String>,
}

/// Writes the statement that signs a digest, as cosign 3 has it.
pub fn signature(digest: &Digest, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    go_json::to_vec(&Signing {
        kind: STATEMENT_V1,
        subject: [SignedSubject { digest: digest_set(digest), annotations }],
        predicate_type: COSIGN_SIGN,
        predicate: Empty {},
    })
}

/// Writes the statement that attests `predicate`, a JSON value, to a digest, as cosign has it. The predicate stays as
/// it is, byte for byte.
///
/// `name` is the repository as cosign names it ([`Repository::cosign_name`](crate::reference::Repository::cosign_name)).
///
/// # Errors
/// Fails where the predicate is no JSON value or too long, and where its type is none or that of signatures.
pub fn attestation(
    name: &str,
    digest: &Digest,
    predicate_type: &str,
    predicate: &[u8],
) -> Result<Vec<u8>, StatementError> {
    if predicate.len() > MAX_PREDICATE_BYTES {
        return Err(StatementError::TooLong(predicate.len()));
    }
    if predicate_type.is_empty()
        || predicate_type.len() > MAX_PREDICATE_TYPE_BYTES
        || predicate_type.contains(|character: char| character.is_control() || character.is_whitespace())
    {
        return Err(StatementError::PredicateType);
    }
    if predicate_type == COSIGN_SIGN {
        return Err(StatementError::Signature);
    }
    // What would close the statement and go on behind it is no JSON value. Unlike `IgnoredAny`, this bounds the depth.
    serde_json::from_slice::<serde_json::Value>(predicate)
        .map_err(|error| StatementError::NotJson(error.to_string()))?;
    let subject = go_json::to_vec(&[AttestedSubject { name, digest: digest_set(digest) }]);
    let predicate_type = go_json::to_vec(&predicate_type);
    let parts: [&[u8]; 9] = [
        br#"{"_type":""#,
        STATEMENT_V01.as_bytes(),
        br#"","subject":"#,
        &subject,
        br#","predicateType":"#,
        &predicate_type,
        br#","predicate":"#,
        predicate,
        b"}",
    ];
    Ok(parts.concat())
}

fn digest_set(digest: &Digest) -> BTreeMap<&'static str, String> {
    BTreeMap::from([(digest.algorithm().name(), digest.hex())])
}

/// What a statement that was written here says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The digest that it names.
    pub digest: Digest,
    /// What it says about it.
    pub predicate_type: String,
}

/// Reads a statement of the form that is written here; `None` for any other: an unknown field, a field twice, several
/// subjects, several digests of one.
pub fn read(statement: &[u8]) -> Option<Said> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Statement {
        #[serde(rename = "_type")]
        kind: String,
        subject: [Subject; 1],
        #[serde(rename = "predicateType")]
        predicate_type: String,
        #[serde(rename = "predicate")]
        _predicate: IgnoredAny,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Subject {
        #[serde(rename = "name")]
        _name: Option<String>,
        digest: BTreeMap<String, String>,
        #[serde(rename = "annotations")]
        _annotations: Option<BTreeMap<String, String>>,
    }
    let Statement { kind, subject: [subject], predicate_type, .. } = serde_json::from_slice(statement).ok()?;
    let (algorithm, hex) = subject.digest.first_key_value().filter(|_| subject.digest.len() == 1)?;
    let digest = format!("{algorithm}:{hex}").parse().ok()?;
    let expected = if predicate_type == COSIGN_SIGN { STATEMENT_V1 } else { STATEMENT_V01 };
    (kind == expected).then_some(Said { digest, predicate_type })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::dsse::{IN_TOTO, pae};

    fn digest() -> Digest {
        "sha256:2640004483400099caaf561d540c6f3feb82d56361b8bdd9f0cc19432c31f0fc".parse().expect("digest")
    }

    #[test]
    fn a_signature_is_annex_a2_to_the_byte() {
        let statement = signature(&digest(), &BTreeMap::new());
        assert_eq!(
            String::from_utf8(statement.clone()).expect("UTF-8"),
            r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"2640004483400099caaf561d540c6f3feb82d56361b8bdd9f0cc19432c31f0fc"},"annotations":{}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}"#
        );
        let signed = pae(IN_TOTO, &statement);
        assert!(signed.starts_with(b"DSSEv1 28 application/vnd.in-toto+json 230 {"));
        assert_eq!(Digest::of(&signed).hex(), "9b0640c49e21714090365c68d2d9b2bf1b4e583c47ff12ad56488d9f95b399cf");
        let said = Said { digest: digest(), predicate_type: COSIGN_SIGN.to_owned() };
        assert_eq!(read(&statement), Some(said));
        let annotated = signature(&digest(), &BTreeMap::from([("b".to_owned(), "<".to_owned())]));
        assert!(String::from_utf8_lossy(&annotated).contains(r#""annotations":{"b":"\u003c"}"#));
    }

    #[test]
    fn an_attestation_keeps_its_predicate() {
        let predicate = "{ \"a\": 12345678901234567890123,\n \"b\": \"<&>\" }";
        let statement = attestation("index.docker.io/library/x", &digest(), "https://x/y?<z>", predicate.as_bytes());
        let statement = String::from_utf8(statement.expect("a statement")).expect("UTF-8");
        assert_eq!(
            statement,
            format!(
                r#"{{"_type":"https://in-toto.io/Statement/v0.1","subject":[{{"name":"index.docker.io/library/x","digest":{{"sha256":"{}"}}}}],"predicateType":"https://x/y?\u003cz\u003e","predicate":{predicate}}}"#,
                digest().hex()
            )
        );
        let said = Said { digest: digest(), predicate_type: "https://x/y?<z>".to_owned() };
        assert_eq!(read(statement.as_bytes()), Some(said));
    }

    #[test]
    fn what_is_no_predicate_is_refused() {
        let attest = |kind: &str, predicate: &[u8]| attestation("r/x", &digest(), kind, predicate);
        for predicate in ["", "{", "{}{}", r#"{},"subject":[]"#, "{}}", "nul", "\"\u{1}\"", &"[".repeat(200)] {
            let refused = attest("https://x", predicate.as_bytes());
            assert!(matches!(refused, Err(StatementError::NotJson(_))), "{predicate:?}");
        }
        assert!(matches!(attest("https://x", b"\"\xff\""), Err(StatementError::NotJson(_))));
        for kind in ["", "a b", "a\u{1b}[1m", &"x".repeat(MAX_PREDICATE_TYPE_BYTES + 1)] {
            assert_eq!(attest(kind, b"{}"), Err(StatementError::PredicateType), "{kind:?}");
        }
        assert_eq!(attest(COSIGN_SIGN, b"{}"), Err(StatementError::Signature));
        let long = vec![b' '; MAX_PREDICATE_BYTES + 1];
        assert_eq!(attest("https://x", &long), Err(StatementError::TooLong(long.len())));
    }

    #[test]
    fn other_statements_are_not_read() {
        let good = String::from_utf8(signature(&digest(), &BTreeMap::new())).expect("UTF-8");
        assert!(read(good.as_bytes()).is_some());
        let hex = digest().hex();
        for (from, to) in [
            ("Statement/v1", "Statement/v0.1"),
            (COSIGN_SIGN, "https://other"),
            ("{\"digest\"", "{\"more\":1,\"digest\""),
            ("\"predicate\":{}", "\"predicate\":{},\"predicate\":{}"),
            ("\"predicate\":{}", "\"Predicate\":{}"),
            ("}]", "},{\"digest\":{}}]"),
            (&format!("\"sha256\":\"{hex}\""), &format!("\"sha256\":\"{hex}\",\"sha512\":\"00\"")),
            (&hex, "12"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }
}
