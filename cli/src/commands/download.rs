//! `larder download`: signatures, attestations and SBOMs as cosign prints them.

use std::collections::{BTreeMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use larder_core::signature::predicate::SHORT_NAMES;
use larder_proto::v1;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cat::Hash;
use super::{inspect, sbom};
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::habits::Registry;
use crate::output::Output;

/// The most bytes of a payload, an envelope or a bundle: no longer one is ever checked.
const MAX_BYTES: u64 = 32 << 20;
/// The most bytes of all that is printed at once.
const MAX_PRINTED: usize = 256 << 20;
/// What the media type of every Sigstore bundle begins with.
const BUNDLE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const DSSE_ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// Print what is attached to an artifact, as `cosign download` does
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder download signature registry.example.org/store/app:1.4")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Signature(Signature),
    Attestation(Attestation),
    Sbom(Sbom),
}

/// Print the signatures, one JSON value on each line
///
/// Sigstore bundles where there are any (those of attestations, too), else the classic signatures: Base64Signature,
/// Payload, Cert and Chain (PEM, where cosign prints Go's own form), Bundle and RFC3161Timestamp. Nothing is verified by this.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder download signature registry.example.org/store/app:1.4 | jq -r .Payload | base64 -d")]
struct Signature {
    #[command(flatten)]
    registry: Registry,
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// The image to take of an index [default: the index itself]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// Print the attestations, one JSON value on each line
///
/// Sigstore bundles where there are any, else the envelopes of classic attestations. Nothing is verified by this.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder download attestation --predicate-type spdxjson registry.example.org/store/app:1.4 | jq -r .payload | base64 -d")]
struct Attestation {
    #[command(flatten)]
    registry: Registry,
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// Only those of this type: cosign's name for it, or a URI
    #[arg(long, value_name = "TYPE", value_parser = predicate_type)]
    predicate_type: Option<String>,
    /// The image to take of an index [default: the index itself]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// Write the SBOM at cosign's tag to stdout
///
/// `larder sbom show` finds SBOMs in attestations and referrers, too, and says who signed them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder download sbom registry.example.org/store/app:1.4 > app.spdx")]
struct Sbom {
    #[command(flatten)]
    registry: Registry,
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// The image to take of an index [default: the index itself]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

fn predicate_type(text: &str) -> Result<String, String> {
    match SHORT_NAMES.iter().find(|(short, _)| *short == text) {
        Some((_, uri)) => Ok((*uri).to_owned()),
        None if text.contains("://") => Ok(text.to_owned()),
        None => {
            let names: Vec<&str> = SHORT_NAMES.iter().map(|(short, _)| *short).collect();
            Err(format!("it is a URI, or one of {}", names.join(", ")))
        }
    }
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    let (reference, lines, what) = match arguments.what {
        What::Sbom(Sbom { registry, reference, platform }) => {
            registry.tell(output);
            let reference = inspect::image_of(&client, &reference, platform.as_deref()).await?;
            return sbom::attached(&client, reference, output).await;
        }
        What::Signature(Signature { registry, reference, platform }) => {
            registry.tell(output);
            let reference = inspect::image_of(&client, &reference, platform.as_deref()).await?;
            let lines = found(&client, &reference, "signature", None).await?;
            (reference, lines, "signatures")
        }
        What::Attestation(Attestation { registry, reference, predicate_type, platform }) => {
            registry.tell(output);
            let reference = inspect::image_of(&client, &reference, platform.as_deref()).await?;
            let lines = found(&client, &reference, "attestation", predicate_type.as_deref()).await?;
            (reference, lines, "attestations")
        }
    };
    if lines.is_empty() {
        return Err(Error::new("none", format!("{reference} has no such {what} here"))
            .hint(format!("`larder tree {reference}` shows what is attached to it")));
    }
    if output.is_json() {
        output.document(&Value::Array(lines))?;
    } else {
        lines.iter().try_for_each(|line| output.json_line(line))?;
    }
    Ok(Exit::Done)
}

/// A manifest, as far as it lists evidence.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    annotations: Option<BTreeMap<String, String>>,
}

/// Returns the bundles, or else what classic layers of this kind hold, each once.
async fn found(
    client: &Client,
    reference: &str,
    kind: &str,
    predicate_type: Option<&str>,
) -> Result<Vec<Value>, Error> {
    let request = v1::GetArtifactRequest { reference: reference.to_owned(), config: false };
    let artifact = client.artifacts().get_artifact(request).await?.into_inner();
    let repository = artifact.summary.unwrap_or_default().repository;
    let is_here =
        |one: &&v1::Attached| one.found_at.strip_prefix(&repository).is_some_and(|rest| rest.starts_with([':', '@']));
    for kind in ["bundle", kind] {
        let mut manifests = Vec::new();
        let attached = artifact.attached.iter().filter(is_here).filter(|one| one.kind == kind);
        for digest in attached.filter_map(|one| Some(&one.descriptor.as_ref()?.digest)) {
            let bytes = read(client, &repository, digest).await?;
            let manifest = serde_json::from_slice::<Manifest>(&bytes);
            let unreadable = |error| {
                Error::new("unreadable", format!("{digest}: {error}"))
                    .hint(format!("`larder cat {repository}@{digest}` prints it as it is"))
            };
            manifests.push(manifest.map_err(unreadable)?);
        }
        // A signature image is rewritten with each signature: the last one has the most.
        manifests.sort_by_key(|manifest| std::cmp::Reverse(manifest.layers.len()));
        let mut lines = Vec::new();
        let mut seen = HashSet::new();
        let mut room = MAX_PRINTED;
        for layer in manifests.iter().flat_map(|manifest| &manifest.layers) {
            if seen.insert((&layer.digest, &layer.annotations)) {
                lines.extend(line(client, &repository, layer, predicate_type, &mut room).await?);
            }
        }
        if !lines.is_empty() {
            return Ok(lines);
        }
    }
    Ok(Vec::new())
}

/// Returns what cosign prints of a layer; nothing of what is none of its own, or of another type than is asked for.
async fn line(
    client: &Client,
    repository: &str,
    layer: &Layer,
    wanted: Option<&str>,
    room: &mut usize,
) -> Result<Option<Value>, Error> {
    let is_bundle = layer.media_type.starts_with(BUNDLE_PREFIX);
    if !is_bundle && ![SIMPLE_SIGNING, DSSE_ENVELOPE].contains(&layer.media_type.as_str()) {
        return Ok(None);
    }
    let bytes = read(client, repository, &layer.digest).await?;
    *room = room.checked_sub(bytes.len()).ok_or_else(|| {
        Error::new("too-long", format!("what is attached has more than {} MiB in all", MAX_PRINTED >> 20))
            .hint("`larder tree` lists it, `larder cat --blob` writes one")
    })?;
    if layer.media_type == SIMPLE_SIGNING {
        return Ok(Some(signed_payload(layer, &bytes)));
    }
    let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { return Ok(None) };
    let line = if is_bundle { value } else { envelope(&value) };
    let of_type =
        |wanted: &str| type_of(if is_bundle { &line["dsseEnvelope"] } else { &line }).as_deref() == Some(wanted);
    Ok(wanted.is_none_or(of_type).then_some(line))
}

/// Writes a classic signature as cosign's `SignedPayload` (facts/sigstore.md 4.7).
fn signed_payload(layer: &Layer, payload: &[u8]) -> Value {
    let text = |name: &str| layer.annotations.as_ref()?.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let nested = |name: &str| text(name).and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "Base64Signature": text("dev.cosignproject.cosign/signature").unwrap_or_default(),
        "Payload": STANDARD.encode(payload),
        "Cert": text("dev.sigstore.cosign/certificate"),
        "Chain": text("dev.sigstore.cosign/chain"),
        "Bundle": nested("dev.sigstore.cosign/bundle"),
        "RFC3161Timestamp": nested("dev.sigstore.cosign/rfc3161timestamp"),
    })
}

/// Writes an envelope in cosign's order, with the fields that cosign has.
pub(super) fn envelope(of: &Value) -> Value {
    let signature = |one: &Value| json!({ "keyid": one["keyid"].as_str().unwrap_or_default(), "sig": one["sig"].as_str().unwrap_or_default() });
    json!({
        "payloadType": of["payloadType"],
        "payload": of["payload"],
        "signatures": of["signatures"].as_array().into_iter().flatten().map(signature).collect::<Vec<_>>(),
    })
}

/// Returns the predicate type of the statement in an envelope.
fn type_of(envelope: &Value) -> Option<String> {
    let payload = STANDARD.decode(envelope["payload"].as_str()?).ok()?;
    let statement: Value = serde_json::from_slice(&payload).ok()?;
    statement["predicateType"].as_str().map(str::to_owned)
}

/// Reads a small piece of content whole, and checks it against its digest.
async fn read(client: &Client, repository: &str, digest: &str) -> Result<Bytes, Error> {
    let mut hash = Hash::of(digest)?;
    let request =
        v1::ReadRequest { repository: repository.to_owned(), digest: digest.to_owned(), ..Default::default() };
    let mut pieces = client.content().read(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await? {
        bytes.extend_from_slice(&piece.data);
        if bytes.len() as u64 > MAX_BYTES || piece.size > MAX_BYTES {
            return Err(Error::new("too-long", format!("{digest} has more than {} MiB", MAX_BYTES >> 20))
                .hint("`larder cat --blob` writes it as it is"));
        }
    }
    hash.update(&bytes);
    hash.check(digest)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_as_cosign_names_them() {
        assert_eq!(predicate_type("spdxjson").as_deref(), Ok("https://spdx.dev/Document"));
        assert_eq!(predicate_type("https://x.org/y").as_deref(), Ok("https://x.org/y"));
        assert!(predicate_type("nope").is_err_and(|error| error.contains("cyclonedx")));
    }

    #[test]
    fn a_classic_signature_is_printed_as_cosign_prints_it() {
        let annotations = [
            ("dev.cosignproject.cosign/signature", "c2ln"),
            ("dev.sigstore.cosign/certificate", "-----BEGIN CERTIFICATE-----\n"),
            ("dev.sigstore.cosign/chain", ""),
            ("dev.sigstore.cosign/bundle", "{\"SignedEntryTimestamp\":\"x\",\"Payload\":{\"logIndex\":7}}"),
            ("dev.sigstore.cosign/rfc3161timestamp", "no JSON"),
        ];
        let layer = Layer {
            media_type: SIMPLE_SIGNING.to_owned(),
            digest: String::new(),
            annotations: Some(annotations.map(|(name, text)| (name.to_owned(), text.to_owned())).into()),
        };
        assert_eq!(
            signed_payload(&layer, b"{}").to_string(),
            r#"{"Base64Signature":"c2ln","Payload":"e30=","Cert":"-----BEGIN CERTIFICATE-----\n","Chain":null,"Bundle":{"SignedEntryTimestamp":"x","Payload":{"logIndex":7}},"RFC3161Timestamp":null}"#
        );
    }

    #[test]
    fn an_envelope_is_printed_in_cosigns_order() {
        let odd = json!({"signatures": [{"sig": "c2ln"}], "payload": "e30=", "payloadType": "t", "more": 1});
        assert_eq!(
            envelope(&odd).to_string(),
            r#"{"payloadType":"t","payload":"e30=","signatures":[{"keyid":"","sig":"c2ln"}]}"#
        );
        assert_eq!(envelope(&json!([])).to_string(), r#"{"payloadType":null,"payload":null,"signatures":[]}"#);
    }

    #[test]
    fn the_type_is_the_statements() {
        let payload = STANDARD.encode(r#"{"predicateType":"https://spdx.dev/Document"}"#);
        assert_eq!(type_of(&json!({ "payload": payload })).as_deref(), Some("https://spdx.dev/Document"));
        assert_eq!(type_of(&json!({ "payload": "%" })), None);
    }
}
