//! `larder attach signature` and `larder attach attestation`: what somebody else made lies in files.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use larder_proto::v1;
use serde_json::{Value, json};

use super::{download, read_small};
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::habits::Registry;
use crate::output::{Output, text};

/// The most bytes of a payload, as the daemon has it.
const MAX_PAYLOAD: u64 = 1 << 20;
/// The most bytes of a signature, of a certificate, and of everything else that comes with it.
const MAX_BESIDE: u64 = 256 << 10;
/// The most bytes of a file with attestations.
const MAX_ATTESTATIONS: u64 = 64 << 20;

/// Attach a signature that was made elsewhere, as `cosign attach signature` does
///
/// It is added at the tag `sha256-<hex>.sig`, beside those that are there, and judged like every other: attaching it makes
/// nobody trusted. `larder push` carries it along.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder attach signature --payload payload.json --signature payload.sig registry.example.org/store/app:1.4
  cat payload.sig | larder attach signature --payload payload.json --signature - registry.example.org/store/app:1.4")]
pub(super) struct Signature {
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// The signature in base64: a file, `-` for stdin, or the signature itself
    #[arg(long, value_name = "FILE|-|BASE64")]
    signature: String,
    /// What was signed [default: the payload without annotations, as it would be signed here]
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// The signer's certificate, PEM
    #[arg(long, alias = "cert", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Who issued it, PEM
    #[arg(long, alias = "cert-chain", value_name = "FILE", requires = "certificate")]
    certificate_chain: Option<PathBuf>,
    /// A timestamp authority's response, DER
    #[arg(long, value_name = "FILE")]
    tsr: Option<PathBuf>,
    /// The log's entry, as cosign writes it (--rekor-response): JSON
    #[arg(long, value_name = "FILE")]
    rekor_response: Option<PathBuf>,
    #[command(flatten)]
    registry: Registry,
}

/// Attach attestations that were made elsewhere, as `cosign attach attestation` does
///
/// Each is added at the tag `sha256-<hex>.att`, and judged like every other.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder attach attestation --attestation provenance.dsse.json registry.example.org/store/app:1.4")]
pub(super) struct Attestation {
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// DSSE envelopes, one or several in a file; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    attestation: Vec<PathBuf>,
    #[command(flatten)]
    registry: Registry,
}

pub(super) async fn signature(arguments: Signature, output: &Output) -> Result<Exit, Error> {
    arguments.registry.tell(output);
    let text = |path: &Option<PathBuf>| path.as_deref().map(text_of).transpose().map(Option::unwrap_or_default);
    let mut request = v1::AttachEvidenceRequest {
        reference: arguments.reference,
        signature: signature_of(&arguments.signature)?,
        certificate: text(&arguments.certificate)?,
        chain: text(&arguments.certificate_chain)?,
        log_entry: text(&arguments.rekor_response)?,
        ..Default::default()
    };
    if let Some(path) = &arguments.tsr {
        let response = STANDARD.encode(read_small(path, MAX_BESIDE)?);
        request.timestamp = json!({ "SignedRFC3161Timestamp": response }).to_string();
    }
    let client = connect(output).await?;
    request.payload = match &arguments.payload {
        Some(path) => read_small(path, MAX_PAYLOAD)?.into(),
        None => plain_payload(&client, &request.reference).await?,
    };
    attach(&client, request, "signature", output).await?;
    Ok(Exit::Done)
}

pub(super) async fn attestation(arguments: Attestation, output: &Output) -> Result<Exit, Error> {
    arguments.registry.tell(output);
    let envelopes = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    let envelopes = envelopes.map_err(|error| bad(&format!("it is no JSON: {error}")))?;
    if envelopes.is_empty() {
        return Err(bad("it is empty"));
    }
    match envelopes.iter().all(|envelope| envelope["signatures"].as_array().is_some_and(|all| !all.is_empty())) {
        true => Ok(envelopes),
        false => Err(bad("an attestation without a signature")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_envelopes_may_be_in_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("attestations");
        let one = r#"{"payload":"e30=","payloadType":"t","signatures":[{"sig":"c2ln"}]}"#;
        for (text, expected) in [
            (one.to_owned(), Some(1)),
            (format!("{one}\n{one}\n"), Some(2)),
            (String::new(), None),
            (format!("{one}\n{{"), None),
            (format!("{one} x"), None),
            (r#"{"payload":"e30=","payloadType":"t","signatures":[]}"#.to_owned(), None),
        ] {
            std::fs::write(&path, &text).expect("written");
            assert_eq!(envelopes_of(&path).ok().map(|found| found.len()), expected, "{text}");
        }
    }

    #[test]
    fn a_signature_is_base64() {
        assert_eq!(signature_of("c2ln").ok().as_deref(), Some("c2ln"));
        assert!(signature_of("no/such/file.sig").is_err());
    }
}
