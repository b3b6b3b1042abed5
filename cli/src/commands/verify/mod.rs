//! `larder verify`.

pub(crate) mod asked;
pub(crate) mod flags;
mod local;
pub(crate) mod names;

use std::collections::HashMap;

use clap::Args;
use larder_proto::v1;
use serde_json::Value;

use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, state, text, words};

/// Verify an image as `cosign verify` does, under the trust of this machine, or under flags
///
/// Answers from the store; for what is not held, fetches manifests and signatures only, and keeps nothing. With --key or an
/// identity, these flags alone decide: every signature is looked at, in every format, wherever it is found, and the trust folder
/// plays no part. Prints the verified payloads as cosign does: as one line of JSON, with `--output text` one payload a line.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes, as cosign has them: 0 accepted, 10 unsigned, 11 not found, 12 untrusted or revoked, 1 everything \
else, usage and pending included.

Examples:
  larder verify registry.example.org/store/app:1.4
  larder verify registry.example.org/store/app:1.4 | jq '.[].optional'
  larder verify --key cosign.pub -a env=prod registry.example.org/store/app:1.4
  larder verify --trusted-root trusted_root.json --certificate-identity alice@example.org \\
    --certificate-oidc-issuer https://accounts.example.org registry.example.org/store/app:1.4
  larder verify docker.io/library/alpine@sha256:4bcf…"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: flags::Flags,
    /// What the signature must say beside the digest; may be repeated
    #[arg(short, long = "annotations", value_name = "K=V", help_heading = "Instead of the trust folder")]
    annotations: Vec<String>,
    /// Look at what is attached in place of the image: sbom
    #[arg(long, value_name = "KIND", value_parser = ["sbom"], conflicts_with = "local_image", help_heading = "Instead of the trust folder")]
    attachment: Option<String>,
    /// Count a bundle with any attestation as a signature, as cosign does
    #[arg(long, help_heading = "Instead of the trust folder")]
    compat_cosign: bool,
    /// What to verify, held or not
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let Arguments { flags, annotations, attachment, compat_cosign, references } = arguments;
    let annotations = flags::annotations(&annotations)?;
    let place = flags.place();
    if flags.decide(!annotations.is_empty() || attachment.is_some() || compat_cosign)? {
        let request = flags.request(output)?;
        for reference in references {
            let mut request = request.clone();
            request.reference = reference.clone();
            request.annotations.clone_from(&annotations);
            request.attached_sbom = attachment.is_some();
            request.bundles_sign = compat_cosign;
            let answer = asked::verify(request, place, output).await?;
            let name = match (&attachment, place) {
                (Some(_), _) => names::tagged(&answer.repository, &answer.tag),
                (None, asked::Place::StoreOrRegistry) => names::full(&reference),
                (None, asked::Place::Layout) => reference,
            };
            asked::header(&name, &answer).iter().for_each(|line| output.say(line));
            asked::print(&name, &answer, output)?;
        }
        return Ok(Exit::Done);
    }
    for reference in references {
        under_trust(reference, output).await?;
    }
    Ok(Exit::Done)
}

/// Judges under the trust folder.
async fn under_trust(reference: String, output: &Output) -> Result<(), Error> {
    let client = connect(output).await?;
    let request = v1::VerifyRequest { reference: reference.clone() };
    let verified = match client.verification().verify(request).await {
        Ok(verified) => verified.into_inner(),
        Err(status) => {
            let error = Error::from(status);
            let exit =
                if matches!(error.reason(), "not-found" | "not-held") { Exit::VerifyNotFound } else { Exit::Error };
            return Err(error.exits(exit));
        }
    };
    verified.looked_at.iter().for_each(|line| output.detail(&format!("looked at {line}")));
    let verdict = verified.verdict.clone().unwrap_or_default();
    if !state::is_accepted(verdict.state()) {
        return Err(rejected(&reference, &verdict));
    }
    let name = names::full(&reference);
    header(&name, &verified).iter().for_each(|line| output.say(line));
    if output.is_text() {
        return payloads(&name, &verified).as_array().into_iter().flatten().try_for_each(|one| output.json_line(one));
    }
    // An empty line comes first, as with cosign.
    output.data("")?;
    output.json_line(&payloads(&name, &verified))
}

fn rejected(reference: &str, verdict: &v1::Verdict) -> Error {
    let because = words::because(&verdict.reasons);
    let message =
        format!("{reference} ({}) is {}: {because}", text::short(&verdict.digest), state::name(verdict.state()));
    let error = Error::new(state::name(verdict.state()), message).exits(Exit::of_verified(verdict.state()));
    error.hint(words::remedy(verdict).unwrap_or_default())
}

/// Says what was checked, in cosign's manner; only what really was.
fn header(reference: &str, verified: &v1::VerifyResponse) -> Vec<String> {
    let mut lines = vec![String::new(), format!("Verification for {reference} --")];
    if verified.signatures.is_empty() {
        let because = verified.verdict.as_ref().map(|verdict| words::because(&verdict.reasons)).unwrap_or_default();
        lines.push(format!("No signature was needed: {because}"));
    }
    if !verified.checks.is_empty() {
        lines.push(match verified.signatures.len() {
            0 => "The following checks were performed:".to_owned(),
            _ => "The following checks were performed on each of these signatures:".to_owned(),
        });
        lines.extend(verified.checks.iter().map(|check| format!("  - {check}")));
    }
    lines.extend(
        verified.signatures.iter().map(|one| format!("  signed by {} ({})", one.key, text::short(&one.key_id))),
    );
    lines
}

fn payloads(reference: &str, verified: &v1::VerifyResponse) -> Value {
    let digest = verified.verdict.as_ref().map(|verdict| verdict.digest.as_str()).unwrap_or_default();
    // The daemon counts no signature whose payload cannot be read.
    let read = verified.signatures.iter().filter_map(|one| serde_json::from_slice::<Value>(&one.payload).ok());
    read.map(|payload| payload_or_statement(reference, digest, payload)).collect()
}

/// Renders an in-toto statement in the form of a classic payload, as cosign does.
fn payload_or_statement(reference: &str, digest: &str, payload: Value) -> Value {
    let Some(predicate_type) = payload.get("predicateType").and_then(Value::as_str) else { return payload };
    let annotations: HashMap<String, String> = payload["subject"][0]
        .get("annotations")
        .and_then(|annotations| serde_json::from_value(annotations.clone()).ok())
        .unwrap_or_default();
    asked::statement(reference, digest, predicate_type, &annotations)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str = r#"{"critical":{"identity":{"docker-reference":"r/app"},"image":{"docker-manifest-digest":"sha256:00"},"type":"cosign container image signature"},"optional":null}"#;

    #[test]
    fn payloads_are_an_array_on_one_line() {
        let signature =
            v1::VerifiedSignature { payload: PAYLOAD.into(), key: "release".to_owned(), ..Default::default() };
        let verified = v1::VerifyResponse {
            signatures: vec![signature],
            checks: vec!["the payload names the digest".to_owned()],
            ..Default::default()
        };
        assert_eq!(payloads("r/app:1", &verified).to_string(), format!("[{PAYLOAD}]"));
        let said = header("r/app:1", &verified).join("\n");
        assert!(said.contains("each of these signatures:\n  - the payload names the digest\n"), "{said}");
        assert!(!said.contains("transparency"), "only checks that ran: {said}");
        assert_eq!(payloads("r/app:1", &v1::VerifyResponse::default()).to_string(), "[]");
    }

    #[test]
    fn a_rejection_names_the_reference_and_has_cosigns_code() {
        let verdict = v1::Verdict {
            state: v1::State::Revoked.into(),
            reasons: vec![v1::Reason { code: "key-revoked".to_owned(), detail: "release revoked".to_owned() }],
            ..Default::default()
        };
        let error = rejected("r/app:1", &verdict);
        assert_eq!((error.reason(), error.exit().code()), ("revoked", 12));
        let Error::Told(told) = error else { panic!("no words") };
        assert!(told.message.starts_with("r/app:1 (") && told.message.ends_with("is revoked: key release revoked"));
    }
}
