//! What is signed, looked at before it is signed.
//!
//! What is signed is trusted wherever the key is, and it can not be taken back: so whoever listens at the socket does
//! not get a signature over bytes of its own choice, only over a statement about the digest that is shown.

use std::collections::{BTreeMap, HashMap};

use larder_proto::v1;
use serde::Deserialize;

use super::{Predicate, Saying};

/// The payload's type, by cosign's signature specification.
const PAYLOAD_TYPE: &str = "cosign container image signature";
/// The payload type of statements (DSSE).
const STATEMENT: &str = "application/vnd.in-toto+json";
/// The predicate type by which cosign's bundles sign.
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
/// The `_type` of statements that sign, and of those that attest.
const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
const STATEMENT_V01: &str = "https://in-toto.io/Statement/v0.1";

/// Returns the bytes to sign, if what the daemon gave is what was asked for; else says in which respect it is not.
pub(super) fn inspect(
    prepared: &v1::PrepareSignatureResponse,
    saying: &Saying,
    format: v1::SignatureFormat,
) -> Result<Vec<u8>, &'static str> {
    match (saying, format) {
        (Saying::Signature(annotations), v1::SignatureFormat::Bundle) => {
            inspect_statement(prepared, annotations)?;
            Ok(pae(&prepared.payload))
        }
        (Saying::Signature(annotations), _) => {
            inspect_payload(prepared, annotations)?;
            Ok(prepared.payload.to_vec())
        }
        (Saying::Attestation(predicate), _) => {
            inspect_attestation(prepared, predicate)?;
            Ok(pae(&prepared.payload))
        }
    }
}

/// Writes the bytes that are signed for a statement: DSSE's pre-authentication encoding, which no other format's bytes
/// can be taken for.
fn pae(statement: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {STATEMENT} {} ", STATEMENT.len(), statement.len());
    [head.as_bytes(), statement].concat()
}

/// The bytes that get signed, with no room for anything that this client does not look at: an unknown field, a field
/// twice, or one in other letters, which some readers take for the same, is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    optional: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Subject,
    r#type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

fn inspect_payload(
    prepared: &v1::PrepareSignatureResponse,
    annotations: &HashMap<String, String>,
) -> Result<(), &'static str> {
    let payload: Payload = serde_json::from_slice(&prepared.payload)
        .map_err(|_| "what the daemon gave to sign is no payload of cosign's")?;
    let critical = payload.critical;
    if critical.r#type != PAYLOAD_TYPE {
        return Err("what the daemon gave to sign is a payload of another type");
    }
    if critical.image.docker_manifest_digest != prepared.digest {
        return Err(OTHER_DIGEST);
    }
    if critical.identity.docker_reference != cosign_name(&prepared.repository) {
        return Err(OTHER_REPOSITORY);
    }
    same(&payload.optional.unwrap_or_default(), annotations)
}

const OTHER_DIGEST: &str = "what the daemon gave to sign names another digest than the daemon's answer";
const OTHER_REPOSITORY: &str = "what the daemon gave to sign names another repository than the daemon's answer";
const OTHER_TYPE: &str = "what the daemon gave to sign is a statement of another type";
const NO_STATEMENT: &str = "what the daemon gave to sign is no statement of the form that is signed";

fn same(said: &BTreeMap<String, String>, asked: &HashMap<String, String>) -> Result<(), &'static str> {
    if said.len() != asked.len() || said.iter().any(|(key, value)| asked.get(key) != Some(value)) {
        return Err("what the daemon gave to sign says other things beside the digest than was asked for");
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement<S> {
    #[serde(rename = "_type")]
    kind: String,
    subject: [S; 1],
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Option<Nothing>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedSubject {
    digest: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestedSubject {
    name: String,
    digest: BTreeMap<String, String>,
}

fn names(digests: &BTreeMap<String, String>, digest: &str) -> Result<(), &'static str> {
    let asked = digest.split_once(':').ok_or(OTHER_DIGEST)?;
    let only = digests.first_key_value().filter(|_| digests.len() == 1);
    if only.is_some_and(|(algorithm, hex)| (algorithm.as_str(), hex.as_str()) == asked) {
        return Ok(());
    }
    Err(OTHER_DIGEST)
}

fn inspect_statement(
    prepared: &v1::PrepareSignatureResponse,
    annotations: &HashMap<String, String>,
) -> Result<(), &'static str> {
    let statement: Statement<SignedSubject> = serde_json::from_slice(&prepared.payload).map_err(|_| NO_STATEMENT)?;
    if statement.kind != STATEMENT_V1 || statement.predicate_type != SIGN_PREDICATE || statement.predicate.is_none() {
        return Err(OTHER_TYPE);
    }
    let [subject] = statement.subject;
    names(&subject.digest, &prepared.digest)?;
    same(&subject.annotations, annotations)
}

/// The predicate has to stand at the end, byte for byte as it was sent; what stands before it has no room for more.
fn inspect_attestation(prepared: &v1::PrepareSignatureResponse, predicate: &Predicate) -> Result<(), &'static str> {
    let head = prepared.payload.strip_suffix(b"}").and_then(|rest| rest.strip_suffix(predicate.body.as_slice()));
    let head = head.filter(|head| head.ends_with(br#""predicate":"#));
    let head = head.ok_or("what the daemon gave to sign does not end in the predicate")?;
    // With nothing in the predicate's place, the rest is a statement without one.
    let statement: Statement<AttestedSubject> =
        serde_json::from_slice(&[head, b"null}"].concat()).map_err(|_| NO_STATEMENT)?;
    if statement.kind != STATEMENT_V01 || statement.predicate_type != predicate.kind || statement.predicate.is_some() {
        return Err(OTHER_TYPE);
    }
    let [subject] = statement.subject;
    if subject.name != cosign_name(&prepared.repository) {
        return Err(OTHER_REPOSITORY);
    }
    names(&subject.digest, &prepared.digest)
}

/// Writes a repository as cosign does, which calls Docker Hub by the name of its index.
pub(crate) fn cosign_name(repository: &str) -> String {
    match repository.strip_prefix("docker.io/") {
        Some(path) => format!("index.docker.io/{path}"),
        None => repository.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:2640004483400099caaf561d540c6f3feb82d56361b8bdd9f0cc19432c31f0fc";
    const OTHER: &str = "sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1";
    const HERE: &str = "quay.io/a/b";

    fn prepared(repository: &str, payload: String) -> v1::PrepareSignatureResponse {
        v1::PrepareSignatureResponse {
            repository: repository.to_owned(),
            digest: DIGEST.to_owned(),
            payload: payload.into(),
        }
    }

    fn payload(name: &str, digest: &str, optional: &str) -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{PAYLOAD_TYPE}"}},"optional":{optional}}}"#
        )
    }

    fn signing(annotations: &[(&str, &str)]) -> Saying {
        Saying::Signature(annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    fn accepts(repository: &str, payload: String, annotations: &[(&str, &str)]) -> bool {
        inspect(&prepared(repository, payload), &signing(annotations), v1::SignatureFormat::Legacy).is_ok()
    }

    #[test]
    fn what_was_asked_for_is_signed() {
        assert!(accepts(HERE, payload(HERE, DIGEST, "null"), &[]));
        assert!(accepts(HERE, payload(HERE, DIGEST, r#"{"a":"\u003cb"}"#), &[("a", "<b")]));
        let hub = "docker.io/library/alpine";
        assert!(accepts(hub, payload("index.docker.io/library/alpine", DIGEST, "null"), &[]));
    }

    #[test]
    fn nothing_else_is_signed() {
        let good = payload(HERE, DIGEST, "null");
        assert!(!accepts(HERE, payload(HERE, OTHER, "null"), &[]), "another digest in the payload");
        assert!(!accepts(HERE, payload("quay.io/a/c", DIGEST, "null"), &[]), "another repository");
        assert!(!accepts(HERE, payload(HERE, DIGEST, r#"{"env":"prod"}"#), &[]), "more than was asked for");
        assert!(!accepts(HERE, good.clone(), &[("env", "prod")]), "less than was asked for");
        assert!(!accepts(HERE, payload(HERE, DIGEST, r#"{"env":"test"}"#), &[("env", "prod")]));
        assert!(!accepts(HERE, good.replace(PAYLOAD_TYPE, "atomic container signature"), &[]));
        let image = format!(r#""image":{{"docker-manifest-digest":"{DIGEST}"}}"#);
        for trick in [
            format!(r#"{image},"image":{{"docker-manifest-digest":"{OTHER}"}}"#),
            format!(r#"{image},"Image":{{"docker-manifest-digest":"{OTHER}"}}"#),
            image.replace('}', &format!(r#","Docker-Manifest-Digest":"{OTHER}"}}"#)),
        ] {
            assert!(!accepts(HERE, good.replace(&image, &trick), &[]), "read differently elsewhere: {trick}");
        }
        for odd in ["", "null", "{}", "[]", "any text, such as a commit", &format!("{good}{good}")] {
            assert!(!accepts(HERE, odd.to_owned(), &[]), "{odd:?}");
        }
    }

    fn statement(digest: &str, annotations: &str) -> String {
        let hex = digest.trim_start_matches("sha256:");
        format!(
            r#"{{"_type":"{STATEMENT_V1}","subject":[{{"digest":{{"sha256":"{hex}"}},"annotations":{annotations}}}],"predicateType":"{SIGN_PREDICATE}","predicate":{{}}}}"#
        )
    }

    fn accepts_statement(statement: &str, annotations: &[(&str, &str)]) -> bool {
        let prepared = prepared(HERE, statement.to_owned());
        inspect(&prepared, &signing(annotations), v1::SignatureFormat::Bundle).is_ok()
    }

    #[test]
    fn a_statement_that_signs() {
        let good = statement(DIGEST, "{}");
        let signed = inspect(&prepared(HERE, good.clone()), &signing(&[]), v1::SignatureFormat::Bundle);
        assert_eq!(signed, Ok(format!("DSSEv1 28 application/vnd.in-toto+json 230 {good}").into_bytes()));
        assert!(accepts_statement(&statement(DIGEST, r#"{"a":"b"}"#), &[("a", "b")]));
        assert!(!accepts_statement(&statement(DIGEST, r#"{"a":"b"}"#), &[]));
        assert!(!accepts_statement(&good, &[("a", "b")]));
        assert!(!accepts_statement(&statement(OTHER, "{}"), &[]));
        assert!(!accepts(HERE, good.clone(), &[]), "where a payload was asked for");
        assert!(!accepts_statement(&payload(HERE, DIGEST, "null"), &[]), "where a statement was asked for");
        let hex = DIGEST.trim_start_matches("sha256:");
        for (from, to) in [
            (STATEMENT_V1, STATEMENT_V01),
            (SIGN_PREDICATE, "https://slsa.dev/provenance/v1"),
            (r#""predicate":{}"#, r#""predicate":{"a":1}"#),
            (r#""predicate":{}"#, r#""predicate":null"#),
            (r#""predicate":{}"#, r#""predicate":{},"Predicate":{}"#),
            ("}]", r#"},{"digest":{},"annotations":{}}]"#),
            ("[{", r#"[{"name":"x","#),
            (&format!(r#""sha256":"{hex}""#), &format!(r#""sha256":"{hex}","sha512":"00""#)),
            (&format!(r#""sha256":"{hex}""#), &format!(r#""sha512":"{hex}""#)),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(!accepts_statement(&bad, &[]), "{bad}");
        }
    }

    #[test]
    fn a_statement_that_attests() {
        let predicate = |body: &str| Predicate { kind: "https://x".to_owned(), body: body.as_bytes().to_vec() };
        let accepts = |statement: &str, predicate: Predicate| {
            let prepared = prepared(HERE, statement.to_owned());
            inspect(&prepared, &Saying::Attestation(predicate), v1::SignatureFormat::Legacy).is_ok()
        };
        let hex = DIGEST.trim_start_matches("sha256:");
        let good = format!(
            r#"{{"_type":"{STATEMENT_V01}","subject":[{{"name":"{HERE}","digest":{{"sha256":"{hex}"}}}}],"predicateType":"https://x","predicate":{{"a": 1}}}}"#
        );
        assert!(accepts(&good, predicate(r#"{"a": 1}"#)));
        assert!(!accepts(&good, predicate(r#"{"a":1}"#)), "not as it was sent");
        assert!(!accepts(&good, predicate("}")), "not in the predicate's place");
        for (from, to) in [
            ("https://x", "https://y"),
            (STATEMENT_V01, STATEMENT_V1),
            (HERE, "quay.io/a/c"),
            (hex, OTHER.trim_start_matches("sha256:")),
            (r#""predicateType""#, r#""predicate":{},"predicateType""#),
            (r#""predicateType""#, r#""more":{},"predicateType""#),
            ("}]", r#"},{"name":"x","digest":{}}]"#),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(!accepts(&bad, predicate(r#"{"a": 1}"#)), "{bad}");
        }
    }
}
