//! `larder attach`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use clap::{Args, Subcommand, ValueEnum};
use larder_proto::v1;
use serde_json::json;

use super::attach_evidence;
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::habits::Registry;
use crate::output::{Output, json, text};
use crate::upload::{Uploaded, upload};

/// The most bytes of an SBOM, as the daemon has it: cosign reads no longer one.
const MAX_SBOM_BYTES: u64 = 128 << 20;

/// What cosign says of attached SBOMs, and why.
const DEPRECATED: &str = "cosign has deprecated attached SBOMs, for nothing but a tag binds them to the image;
  a signed attestation does: `larder attest --type spdxjson`";

/// Attach something to what is held here
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder attach sbom --sbom app.spdx registry.example.org/store/app:1.4
  larder attach signature --payload payload.json --signature payload.sig registry.example.org/store/app:1.4")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Sbom(Sbom),
    Signature(Box<attach_evidence::Signature>),
    Attestation(attach_evidence::Attestation),
}

/// Attach an SBOM, as `cosign attach sbom` does
///
/// The SBOM becomes an image at the tag `sha256-<hex>.sbom`, byte for byte as cosign writes it, in place of the SBOM that
/// was there. `larder push` carries it along. It is not signed by this: nothing but the name of its tag says what it is
/// about.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder attach sbom --sbom app.spdx registry.example.org/store/app:1.4
  larder attach sbom --sbom bom.json --type cyclonedx registry.example.org/store/app:1.4
  syft -o spdx-json app.tar | larder attach sbom --sbom - --input-format json localhost/team/app:dev")]
struct Sbom {
    #[command(flatten)]
    registry: Registry,
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// The SBOM; `-` reads stdin
    #[arg(long, value_name = "FILE|-")]
    sbom: String,
    /// Its language
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value_t = Kind::Spdx)]
    kind: Kind,
    /// How it is written; a file named *.json is json [default: text for spdx, xml for cyclonedx]
    #[arg(long, value_name = "FORMAT", value_enum)]
    input_format: Option<Format>,
}

/// The language of an SBOM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Spdx,
    Cyclonedx,
    Syft,
}

/// How an SBOM is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Xml,
    Text,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    match arguments.what {
        What::Sbom(arguments) => sbom(arguments, output).await,
        What::Signature(arguments) => attach_evidence::signature(*arguments, output).await,
        What::Attestation(arguments) => attach_evidence::attestation(arguments, output).await,
    }
}

async fn sbom(arguments: Sbom, output: &Output) -> Result<Exit, Error> {
    let Sbom { registry, reference, sbom, kind, input_format } = arguments;
    registry.tell(output);
    let media_type = media_type(kind, input_format, &sbom)?;
    let client = connect(output).await?;
    // Before any byte goes: a wrong name is told at once.
    let request = v1::ResolveReferenceRequest { reference: reference.clone() };
    let held = client.artifacts().resolve_reference(request).await?.into_inner();
    let Uploaded { digest, .. } = bring(&client, &sbom).await?;
    let subject = format!("{}@{}", held.repository, held.digest);
    let request =
        v1::AttachSbomRequest { reference: subject, media_type: media_type.to_owned(), digest: digest.clone() };
    let attached = client.attachments().attach_sbom(request).await?.into_inner();
    if output.is_json() {
        output.document(&json!({
            "repository": attached.repository,
            "digest": attached.digest,
            "sbom": digest,
            "media_type": media_type,
            "size": attached.size,
            "tag": attached.tag,
            "manifest": attached.manifest,
            "old": json::text_of(&attached.old),
            "seq": attached.seq,
        }))?;
    } else {
        output.say(&said(&attached, media_type));
    }
    output.say(DEPRECATED);
    Ok(Exit::Done)
}

fn said(attached: &v1::AttachSbomResponse, media_type: &str) -> String {
    let subject = format!("{}@{}", attached.repository, text::short(&attached.digest));
    let place = text::short_digests(&attached.tag);
    if attached.seq == 0 {
        return format!("{subject} had this SBOM already, at {place}; nothing was changed");
    }
    let size = text::bytes(attached.size);
    let instead = match attached.old.as_str() {
        "" => String::new(),
        old => format!(", in place of {}", text::short(old)),
    };
    format!("attached an SBOM ({media_type}, {size}) to {subject}, at {place}{instead}")
}

async fn bring(client: &Client, sbom: &str) -> Result<Uploaded, Error> {
    let (name, file) = match sbom {
        "-" => ("stdin", io::stdin().as_fd().try_clone_to_owned().map(File::from)),
        path => (path, File::open(path)),
    };
    let file = file.map_err(|error| Error::file(name, &error).and_hint("nothing was changed"))?;
    upload(client, name, tokio::fs::File::from_std(file), MAX_SBOM_BYTES).await
}

/// Returns the media type that cosign chooses (facts/sigstore.md 4.6): a file named `*.json` is JSON, whatever is said.
///
/// # Errors
/// Fails where a language is not written so: cosign would attach it under the name of another format.
fn media_type(kind: Kind, format: Option<Format>, name: &str) -> Result<&'static str, Error> {
    let format = if name.ends_with(".json") { Some(Format::Json) } else { format };
    let wrong = |words: &str| Err(Error::usage(words).hint("`larder attach sbom --help` lists types and formats"));
    match (kind, format) {
        (Kind::Spdx, Some(Format::Json)) => Ok("text/spdx+json"),
        (Kind::Spdx, Some(Format::Text) | None) => Ok("text/spdx"),
        (Kind::Cyclonedx, Some(Format::Json)) => Ok("application/vnd.cyclonedx+json"),
        (Kind::Cyclonedx, Some(Format::Xml) | None) => Ok("application/vnd.cyclonedx+xml"),
        (Kind::Syft, Some(Format::Json) | None) => Ok("application/vnd.syft+json"),
        (Kind::Spdx, Some(Format::Xml)) => wrong("an attached spdx SBOM is text or json, not xml"),
        (Kind::Cyclonedx, Some(Format::Text)) => wrong("a cyclonedx SBOM is xml or json, not text"),
        (Kind::Syft, Some(Format::Xml | Format::Text)) => wrong("a syft SBOM is json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_cosigns() {
        for (kind, format, name, expected) in [
            (Kind::Spdx, None, "a.spdx", Some("text/spdx")),
            (Kind::Spdx, None, "a.json", Some("text/spdx+json")),
            (Kind::Spdx, Some(Format::Text), "a.json", Some("text/spdx+json")),
            (Kind::Cyclonedx, Some(Format::Xml), "a.json", Some("application/vnd.cyclonedx+json")),
            (Kind::Spdx, Some(Format::Json), "-", Some("text/spdx+json")),
            (Kind::Spdx, Some(Format::Xml), "a.xml", None),
            (Kind::Cyclonedx, None, "a.xml", Some("application/vnd.cyclonedx+xml")),
            (Kind::Cyclonedx, None, "a.json", Some("application/vnd.cyclonedx+json")),
            (Kind::Cyclonedx, Some(Format::Json), "-", Some("application/vnd.cyclonedx+json")),
            (Kind::Cyclonedx, Some(Format::Text), "-", None),
            (Kind::Syft, None, "a", Some("application/vnd.syft+json")),
            (Kind::Syft, Some(Format::Xml), "a", None),
        ] {
            assert_eq!(media_type(kind, format, name).ok(), expected, "{kind:?} {format:?} {name}");
        }
    }

    #[test]
    fn what_happened_is_said() {
        let mut attached = v1::AttachSbomResponse {
            repository: "r.io/app".to_owned(),
            digest: "sha256:6f1c0e2b9d77aa".to_owned(),
            tag: "sha256-6f1c.sbom".to_owned(),
            size: 2048,
            seq: 7,
            ..Default::default()
        };
        let line = said(&attached, "text/spdx");
        assert_eq!(line, "attached an SBOM (text/spdx, 2.0 KiB) to r.io/app@6f1c0e2b9d77, at sha256-6f1c.sbom");
        attached.old = "sha256:aa11bb22cc33dd".to_owned();
        assert!(said(&attached, "text/spdx").ends_with(", in place of aa11bb22cc33"));
        attached.seq = 0;
        assert!(said(&attached, "text/spdx").contains("already"));
    }
}
