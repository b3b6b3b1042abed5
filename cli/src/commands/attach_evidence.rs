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
    let mut envelopes = Vec::new();
    for path in &arguments.attestation {
        envelopes.extend(envelopes_of(path)?);
    }
    let client = connect(output).await?;
    for envelope in envelopes {
        let payload = download::envelope(&envelope).to_string().into();
        let request =
            v1::AttachEvidenceRequest { reference: arguments.reference.clone(), payload, ..Default::default() };
        attach(&client, request, "attestation", output).await?;
    }
    Ok(Exit::Done)
}

async fn attach(client: &Client, request: v1::AttachEvidenceRequest, noun: &str, output: &Output) -> Result<(), Error> {
    let attached = client.attachments().attach_evidence(request).await?.into_inner();
    if output.is_json() {
        return output.document(&json!({
            "repository": attached.repository,
            "digest": attached.digest,
            "tag": attached.tag,
            "manifest": attached.manifest,
            "added": attached.added,
        }));
    }
    let subject = format!("{}@{}", attached.repository, text::short(&attached.digest));
    let place = text::short_digests(&attached.tag);
    output.say(&match attached.added {
        true => format!("attached the {noun} to {subject}, at {place}; `larder verify` says whether it counts"),
        false => format!("{subject} had this {noun} already, at {place}; nothing was changed"),
    });
    Ok(())
}

/// Returns what would be signed here: the payload that cosign makes where none is given.
async fn plain_payload(client: &Client, reference: &str) -> Result<bytes::Bytes, Error> {
    let request = v1::PrepareSignatureRequest { reference: reference.to_owned(), ..Default::default() };
    Ok(client.signatures().prepare_signature(request).await?.into_inner().payload)
}

fn text_of(path: &Path) -> Result<String, Error> {
    let bytes = read_small(path, MAX_BESIDE)?;
    String::from_utf8(bytes).map_err(|_| {
        Error::new("file", format!("{} is no text", path.display())).hint("is it the right file? nothing was attached")
    })
}

/// Reads `--signature`: stdin, a file, or the signature itself, as cosign does.
fn signature_of(given: &str) -> Result<String, Error> {
    let text = match given {
        "-" => {
            let mut text = String::new();
            let read = io::stdin().lock().take(MAX_BESIDE).read_to_string(&mut text);
            read.map_err(|error| Error::file("stdin", &error).and_hint("nothing was attached"))?;
            text
        }
        _ if Path::new(given).exists() => text_of(Path::new(given))?,
        itself => itself.to_owned(),
    };
    let text = text.trim();
    if text.is_empty() || STANDARD.decode(text).is_err() {
        return Err(Error::new("bad-signature", format!("{given} is no file, and holds no signature in base64"))
            .hint("`base64 -w0 raw.sig > payload.sig` makes one of raw bytes; nothing was attached"));
    }
    Ok(text.to_owned())
}

/// Reads the envelopes in a file, one after the other.
fn envelopes_of(path: &Path) -> Result<Vec<Value>, Error> {
    let bytes = read_small(path, MAX_ATTESTATIONS)?;
    let bad = |words: &str| {
        Error::new("bad-signature", format!("{}: {words}", path.display())).hint(
            "a DSSE envelope is asked for, as `cosign attest --no-upload` or `cosign download attestation` print it",
        )
    };
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
        assert!(signature_of("no-such-file").is_err());
    }
}
