//! Verifying under flags: asks the daemon, says what was checked, and prints what was signed, as cosign does.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder_proto::v1;
use serde_json::{Map, Value, json};

use super::local;
use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, text};

/// The payload type of an in-toto statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The names that cosign has for Fulcio's extensions.
const EXTENSIONS: [(u32, &str); 5] = [
    (2, "githubWorkflowTrigger"),
    (3, "githubWorkflowSha"),
    (4, "githubWorkflowName"),
    (5, "githubWorkflowRepository"),
    (6, "githubWorkflowRef"),
];
/// How many refusals are told.
const SHOWN: usize = 5;

/// Where the image and its signatures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here, or at the registry that is named.
    StoreOrRegistry,
    /// In an OCI layout: cosign's `--local-image`.
    Layout,
}

/// Holds the signatures of one reference against a request.
///
/// # Errors
/// Fails where none is as asked for, with cosign's exit codes, or nobody could say.
pub(crate) async fn verify(
    request: v1::VerifySignaturesRequest,
    place: Place,
    output: &Output,
) -> Result<v1::VerifySignaturesResponse, Error> {
    let reference = request.reference.clone();
    let attestations = request.attestations;
    let answer = match place {
        Place::Layout => local::verify(&request)?,
        Place::StoreOrRegistry => by_daemon(request, output).await?,
    };
    answer.looked_at.iter().for_each(|line| output.detail(&format!("looked at {line}")));
    for refused in &answer.refused {
        output.detail(&format!("not counted: {} at {}: {}", refused.format, refused.found_at, refused.message));
    }
    let mut broken: Vec<&String> = answer.accepted.iter().flat_map(|one| &one.broken).collect();
    broken.dedup();
    for words in broken {
        output.warn(&format!("beside a signature that counts, something is broken that was not asked for: {words}"));
    }
    if answer.accepted.is_empty() { Err(nothing(&reference, &answer, attestations)) } else { Ok(answer) }
}

async fn by_daemon(
    request: v1::VerifySignaturesRequest,
    output: &Output,
) -> Result<v1::VerifySignaturesResponse, Error> {
    let client = connect(output).await?;
    client.verification().verify_signatures(request).await.map(|answer| answer.into_inner()).map_err(|status| {
        let error = Error::from(status);
        let missing = matches!(error.reason(), "not-found" | "not-held");
        error.exits(if missing { Exit::VerifyNotFound } else { Exit::Error })
    })
}

/// Says that none is as asked for, and why not.
fn nothing(reference: &str, answer: &v1::VerifySignaturesResponse, attestations: bool) -> Error {
    let what = if attestations { "attestation" } else { "signature" };
    let name = format!("{reference} ({})", text::short(&answer.digest));
    if answer.refused_total == 0 {
        let others = match (answer.others, attestations) {
            (0, _) => String::new(),
            (1, false) => "; 1 attestation was, and an attestation is not a signature".to_owned(),
            (count, false) => format!("; {count} attestations were, and an attestation is not a signature"),
            (count, true) => format!("; {count} of signatures only"),
        };
        return Error::new("unsigned", format!("{name}: no {what}s found{others}"))
            .exits(Exit::VerifyUnsigned)
            .hint(format!("`larder tree {reference}` lists what is attached to it, once it is held"));
    }
    let mut reasons: Vec<String> = Vec::new();
    for refused in &answer.refused {
        let reason = format!("{} ({})", refused.message, refused.check);
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let more = match reasons.len().saturating_sub(SHOWN) {
        0 => String::new(),
        count => format!("; and {count} other reasons"),
    };
    reasons.truncate(SHOWN);
    let message = format!("{name}: no matching {what}s: {}{more}", reasons.join("; "));
    Error::new("untrusted", message)
        .exits(Exit::VerifyUntrusted)
        .hint("-v says where each was found; `larder tree` lists what is attached")
}

/// Says what was checked, in cosign's manner: only what was, of each.
pub(crate) fn header(reference: &str, answer: &v1::VerifySignaturesResponse) -> Vec<String> {
    let every = |check: &str| answer.accepted.iter().all(|one| one.checks.iter().any(|ran| ran == check));
    let by_key = answer.accepted.iter().all(|one| !one.key_id.is_empty());
    let lines = [
        (every("annotations"), "The specified annotations were verified."),
        (every("digest"), "The cosign claims were validated"),
        (every("log-entry"), "Existence of the claims in the transparency log was verified offline"),
        (every("timestamp"), "The timestamps of a trusted timestamp authority were verified"),
        (by_key, "The signatures were verified against the specified public key"),
        (
            every("certificate-chain"),
            "The code-signing certificate was verified using trusted certificate authority certificates",
        ),
    ];
    let mut header = vec![
        String::new(),
        format!("Verification for {reference} --"),
        "The following checks were performed on each of these signatures:".to_owned(),
    ];
    header.extend(lines.into_iter().filter(|(ran, _)| *ran).map(|(_, line)| format!("  - {line}")));
    header
}

/// Prints the accepted signatures as cosign does: an empty line and all of them as JSON, or, as text, what was signed, one a
/// line, and the certificates on stderr.
///
/// # Errors
/// Fails where stdout cannot be written.
pub(crate) fn print(reference: &str, answer: &v1::VerifySignaturesResponse, output: &Output) -> Result<(), Error> {
    if !output.is_text() {
        output.data("")?;
        return output.json_line(&payloads(reference, answer));
    }
    for one in &answer.accepted {
        if !one.predicate_type.is_empty() {
            output.json_line(&payload(reference, &answer.digest, one))?;
            continue;
        }
        certificate(one).iter().for_each(|line| output.say(line));
        output.content(&[one.payload.as_ref(), b"\n"].concat())?;
    }
    Ok(())
}

/// Says whose certificate came with a classic signature; nothing where none did.
fn certificate(one: &v1::AcceptedSignature) -> Vec<String> {
    if one.subject.is_empty() && one.issuer.is_empty() {
        return Vec::new();
    }
    let extension = |number: u32| one.extensions.get(&number).map(String::as_str).unwrap_or_default();
    let lines = [
        ("Certificate subject", one.subject.as_str()),
        ("Certificate issuer URL", &one.issuer),
        ("GitHub Workflow Trigger", extension(2)),
        ("GitHub Workflow SHA", extension(3)),
        ("GitHub Workflow Name", extension(4)),
        ("GitHub Workflow Repository", extension(5)),
        ("GitHub Workflow Ref", extension(6)),
    ];
    lines.iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| format!("{name}: {text}")).collect()
}

/// Returns the accepted signatures as cosign's JSON.
fn payloads(reference: &str, answer: &v1::VerifySignaturesResponse) -> Value {
    answer.accepted.iter().map(|one| payload(reference, &answer.digest, one)).collect()
}

fn payload(reference: &str, digest: &str, one: &v1::AcceptedSignature) -> Value {
    if one.predicate_type.is_empty() {
        return classic(one);
    }
    statement(reference, digest, &one.predicate_type, &one.annotations)
}

/// Renders a statement as cosign does, in the form of a classic payload.
pub(super) fn statement(
    reference: &str,
    digest: &str,
    predicate_type: &str,
    annotations: &HashMap<String, String>,
) -> Value {
    let annotations: BTreeMap<_, _> = annotations.iter().collect();
    json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": predicate_type,
        },
        "optional": annotations,
    })
}

/// Adds to a classic payload what was found out about it, as cosign does.
fn classic(one: &v1::AcceptedSignature) -> Value {
    let Ok(Value::Object(mut payload)) = serde_json::from_slice::<Value>(&one.payload) else { return Value::Null };
    let mut optional: BTreeMap<String, Value> = match payload.get("optional") {
        Some(Value::Object(optional)) => optional.clone().into_iter().collect(),
        _ => BTreeMap::new(),
    };
    let mut add = |name: &str, value: Value| {
        optional.insert(name.to_owned(), value);
    };
    for (name, text) in [("Bundle", &one.log_entry), ("RFC3161Timestamp", &one.timestamp)] {
        if let Ok(value) = serde_json::from_str::<Value>(text) {
            add(name, value);
        }
    }
    for (name, text) in [("Subject", &one.subject), ("Issuer", &one.issuer)] {
        if !text.is_empty() {
            add(name, json!(text));
        }
    }
    if let Some(issuer) = one.extensions.get(&1).or_else(|| one.extensions.get(&8)) {
        add("1.3.6.1.4.1.57264.1.1", json!(issuer));
    }
    for (number, name) in EXTENSIONS {
        if let Some(text) = one.extensions.get(&number) {
            add(&format!("1.3.6.1.4.1.57264.1.{number}"), json!(text));
            add(name, json!(text));
        }
    }
    let optional = match optional.is_empty() {
        true => Value::Null,
        false => Value::Object(optional.into_iter().collect::<Map<_, _>>()),
    };
    payload.insert("optional".to_owned(), optional);
    Value::Object(payload)
}

/// Returns an attestation as an envelope, as cosign prints it.
pub(crate) fn envelope(one: &v1::AcceptedSignature) -> Value {
    json!({
        "payload": STANDARD.encode(&one.payload),
        "payloadType": IN_TOTO,
        "signatures": [{"sig": STANDARD.encode(&one.signature)}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(checks: &[&str]) -> v1::AcceptedSignature {
        v1::AcceptedSignature {
            payload: r#"{"critical":{"type":"t"},"optional":{"z":"1"}}"#.into(),
            checks: checks.iter().map(|check| (*check).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn only_checks_that_ran_on_each_are_told() {
        let answer = v1::VerifySignaturesResponse {
            accepted: vec![signature(&["signature", "digest", "log-entry"]), signature(&["signature", "digest"])],
            ..Default::default()
        };
        let told = header("r/app:1", &answer).join("\n");
        assert!(told.contains("claims were validated") && !told.contains("transparency log"), "{told}");
    }

    #[test]
    fn what_was_found_out_is_sorted_into_optional() {
        let one = v1::AcceptedSignature {
            log_entry: r#"{"SignedEntryTimestamp":"x"}"#.to_owned(),
            subject: "alice@example.com".to_owned(),
            issuer: "https://issuer.example".to_owned(),
            extensions: [(1, "https://issuer.example".to_owned()), (3, "abc".to_owned())].into(),
            ..signature(&[])
        };
        let keys = payload("r/app:1", "sha256:00", &one);
        let keys: Vec<&String> = keys["optional"].as_object().expect("optional").keys().collect();
        let (number, sha) = ("1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.3");
        assert_eq!(keys, [number, sha, "Bundle", "Issuer", "Subject", "githubWorkflowSha", "z"]);
    }

    #[test]
    fn exit_codes_are_cosigns() {
        let refused = v1::RefusedSignature { check: "identity".to_owned(), ..Default::default() };
        let mut answer =
            v1::VerifySignaturesResponse { refused: vec![refused], refused_total: 1, ..Default::default() };
        assert_eq!(nothing("r", &answer, false).exit().code(), 12);
        answer = v1::VerifySignaturesResponse { others: 1, ..Default::default() };
        assert_eq!(nothing("r", &answer, false).exit().code(), 10);
    }
}
