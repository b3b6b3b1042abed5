//! `larder sbom`.

use std::io::{self, Write as _};

use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use larder_proto::v1;
use serde_json::{Value, json};

use super::{cat, inspect};
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::table::fit;
use crate::output::{Output, json, text};

/// Show the SBOMs of what is held here
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder sbom ls registry.example.org/store/app:1.4
  larder sbom show registry.example.org/store/app:1.4")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(Show),
    Ls(Ls),
}

/// Write an SBOM to stdout, byte for byte
///
/// An SBOM is found at cosign's tag `sha256-<hex>.sbom`, in an attestation (SPDX, CycloneDX, Syft) or as a referrer. Where
/// there are several, it is the newest of those that a trusted key signed, else the newest. Who signed it is said on stderr.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder sbom show registry.example.org/store/app:1.4 | jq .packages[].name
  larder sbom show --platform linux/arm64 docker.io/library/alpine:3.22")]
struct Show {
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// The image to take of an index [default: the index itself]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Which SBOM, by a digest that `larder sbom ls` lists
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// Write to a terminal what may steer it
    #[arg(long)]
    force: bool,
}

/// List the SBOMs of an artifact, and who signed each of them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder sbom ls registry.example.org/store/app:1.4
  larder sbom ls registry.example.org/store/app:1.4 --output json | jq '.sboms[] | select(.signed == \"yes\")'")]
struct Ls {
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// The image to take of an index [default: the index itself]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    match arguments.verb {
        Verb::Show(arguments) => show(&client, arguments, output).await,
        Verb::Ls(arguments) => ls(&client, arguments, output).await,
    }
}

async fn show(client: &Client, arguments: Show, output: &Output) -> Result<Exit, Error> {
    let reference = inspect::image_of(client, &arguments.reference, arguments.platform.as_deref()).await?;
    let request = v1::ReadSbomRequest { reference, digest: arguments.digest.unwrap_or_default() };
    write(client, request, arguments.force, output, |sbom| format!("{}, {}", what(sbom), signed_by(sbom))).await
}

/// Writes the SBOM at cosign's tag, and no other one.
///
/// # Errors
/// Fails where nothing is held under the reference, or it has none.
pub(super) async fn attached(client: &Client, reference: String, output: &Output) -> Result<Exit, Error> {
    let request = v1::ListSbomsRequest { reference: reference.clone() };
    let listed = client.attachments().list_sboms(request).await?.into_inner();
    let at_tag = listed.sboms.into_iter().find(|sbom| sbom.form() == v1::SbomForm::Tag);
    let sbom = at_tag.ok_or_else(|| {
        Error::new("no-sbom", format!("no SBOM is attached to {reference}"))
            .hint("`larder sbom ls` lists those in attestations and referrers, too")
    })?;
    let request = v1::ReadSbomRequest { reference, digest: sbom.digest };
    let said = |sbom: &v1::Sbom| format!("Found SBOM of media type: {}, {}", sbom.media_type, signed_by(sbom));
    write(client, request, false, output, said).await
}

async fn write(
    client: &Client,
    request: v1::ReadSbomRequest,
    force: bool,
    output: &Output,
    said: impl Fn(&v1::Sbom) -> String,
) -> Result<Exit, Error> {
    let mut responses = client.attachments().read_sbom(request).await?.into_inner();
    let first = responses.message().await?.unwrap_or_default();
    let sbom = first.sbom.unwrap_or_default();
    let piece = first.piece.unwrap_or_default();
    output.say(&said(&sbom));
    if !piece.warning.is_empty() {
        output.warn(&piece.warning);
    }
    // The predicate of an attestation has no digest of its own: the daemon has checked its statement.
    let is_layer = sbom.form() != v1::SbomForm::Attestation;
    let pieces = responses.map(|response| response.map(|response| response.piece.unwrap_or_default()));
    let digest = Some(sbom.digest.as_str()).filter(|_| is_layer);
    cat::write_out(piece, pieces, digest, &sbom.digest, force).await?;
    io::stdout().flush().map_err(cat::cannot_write)?;
    Ok(Exit::Done)
}

async fn ls(client: &Client, arguments: Ls, output: &Output) -> Result<Exit, Error> {
    let reference = inspect::image_of(client, &arguments.reference, arguments.platform.as_deref()).await?;
    let request = v1::ListSbomsRequest { reference: reference.clone() };
    let listed = client.attachments().list_sboms(request).await?.into_inner();
    if output.is_json() {
        output.document(&json!({
            "repository": listed.repository,
            "digest": listed.digest,
            "sboms": listed.sboms.iter().map(to_json).collect::<Vec<_>>(),
            "odd": json::text_of(&listed.odd),
        }))?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = listed.sboms.iter().map(row).collect();
    if rows.is_empty() {
        output.say(&format!("{reference} has no SBOM here"));
    } else {
        output.data(&fit(&rows, output.columns()).join("\n"))?;
    }
    if !listed.odd.is_empty() {
        output.warn(&format!("what is at {} is no SBOM", text::short_digests(&listed.odd)));
    }
    Ok(Exit::Done)
}

/// Returns what an SBOM is by its type: a media type, or a predicate's.
fn type_of(sbom: &v1::Sbom) -> &str {
    if sbom.predicate_type.is_empty() { &sbom.media_type } else { &sbom.predicate_type }
}

fn what(sbom: &v1::Sbom) -> String {
    let (form, digest) = (form(sbom), text::short(&sbom.digest));
    format!("{} SBOM {digest} ({form}, {}, {})", sbom.kind, type_of(sbom), text::bytes(sbom.size))
}

fn form(sbom: &v1::Sbom) -> &'static str {
    match sbom.form() {
        v1::SbomForm::Attestation => "attestation",
        v1::SbomForm::Tag => "tag",
        v1::SbomForm::Referrer => "referrer",
        v1::SbomForm::Unspecified => "unknown",
    }
}

fn signed_by(sbom: &v1::Sbom) -> String {
    let verb = if sbom.form() == v1::SbomForm::Attestation { "attested" } else { "signed" };
    let names: Vec<String> = sbom.signers.iter().map(signer_name).collect();
    match sbom.signed() {
        v1::SbomSigned::Yes => format!("{verb} by {}", names.join(", ")),
        v1::SbomSigned::Untrusted => format!("{verb} by nobody who is trusted"),
        v1::SbomSigned::Pending => "not checked yet".to_owned(),
        v1::SbomSigned::No | v1::SbomSigned::Unspecified => "not signed".to_owned(),
    }
}

fn signer_name(signer: &v1::SbomSigner) -> String {
    match signer.identity.as_str() {
        "" => signer.key.clone(),
        identity => format!("{identity} ({})", signer.issuer),
    }
}

fn row(sbom: &v1::Sbom) -> Vec<String> {
    let found_at = sbom.found_at.first().map(String::as_str).unwrap_or_default();
    vec![
        sbom.kind.clone(),
        text::short(&sbom.digest),
        text::bytes(sbom.size),
        signed_by(sbom),
        type_of(sbom).to_owned(),
        format!("{} at {}", form(sbom), text::short_digests(found_at)),
    ]
}

fn to_json(sbom: &v1::Sbom) -> Value {
    let signer = |signer: &v1::SbomSigner| {
        json!({
            "key": json::text_of(&signer.key),
            "key_id": json::text_of(&signer.key_id),
            "identity": json::text_of(&signer.identity),
            "issuer": json::text_of(&signer.issuer),
        })
    };
    json!({
        "kind": sbom.kind,
        "form": form(sbom),
        "digest": sbom.digest,
        "media_type": sbom.media_type,
        "predicate_type": json::text_of(&sbom.predicate_type),
        "size": sbom.size,
        "manifest": sbom.manifest,
        "found_at": sbom.found_at,
        "signed": match sbom.signed() {
            v1::SbomSigned::Yes => "yes",
            v1::SbomSigned::Untrusted => "untrusted",
            v1::SbomSigned::Pending => "pending",
            v1::SbomSigned::No | v1::SbomSigned::Unspecified => "no",
        },
        "signers": sbom.signers.iter().map(signer).collect::<Vec<_>>(),
        "seen": json::time_of(sbom.seen.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_signed_is_said_plainly() {
        let mut sbom = v1::Sbom {
            kind: "spdx".to_owned(),
            form: v1::SbomForm::Tag.into(),
            digest: "sha256:6f1c0e2b9d77aa".to_owned(),
            media_type: "text/spdx".to_owned(),
            size: 2048,
            found_at: vec!["r.io/app:sha256-6f1c.sbom".to_owned()],
            signed: v1::SbomSigned::No.into(),
            ..Default::default()
        };
        assert_eq!(
            row(&sbom).join("|"),
            "spdx|6f1c0e2b9d77|2.0 KiB|not signed|text/spdx|tag at r.io/app:sha256-6f1c.sbom"
        );
        sbom.signed = v1::SbomSigned::Untrusted.into();
        assert_eq!(signed_by(&sbom), "signed by nobody who is trusted");
        sbom.signed = v1::SbomSigned::Yes.into();
        let signer = |key: &str| v1::SbomSigner { key: key.to_owned(), key_id: "00".to_owned(), ..Default::default() };
        sbom.signers = vec![signer("build"), signer("release")];
        sbom.form = v1::SbomForm::Attestation.into();
        sbom.predicate_type = "https://spdx.dev/Document".to_owned();
        assert_eq!(signed_by(&sbom), "attested by build, release");
        assert_eq!(what(&sbom), "spdx SBOM 6f1c0e2b9d77 (attestation, https://spdx.dev/Document, 2.0 KiB)");
        assert_eq!(to_json(&sbom)["signers"][1]["key"], "release");
        sbom.signers = vec![v1::SbomSigner {
            identity: "alice@example.org".to_owned(),
            issuer: "https://accounts.example.org".to_owned(),
            ..Default::default()
        }];
        assert_eq!(signed_by(&sbom), "attested by alice@example.org (https://accounts.example.org)");
    }
}
