//! `larder triangulate`.

use clap::{Args, ValueEnum};
use larder_proto::v1;
use serde_json::json;

use super::sign::inspect::cosign_name;
use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// Print where cosign keeps what belongs to an artifact, as `cosign triangulate` does
///
/// Computed from the digest that is held; whether something is there, `larder tree` says. What came as an OCI 1.1 referrer
/// (cosign 3's bundles) has no such tag.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder triangulate docker.io/library/alpine:3.22
  larder triangulate --type sbom registry.example.org/store/app:1.4
  crane manifest $(larder triangulate registry.example.org/store/app:1.4)")]
pub(crate) struct Arguments {
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// What is looked for
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value_t = Kind::Signature)]
    kind: Kind,
}

/// What belongs to an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Classic signatures
    Signature,
    /// Classic attestations
    Attestation,
    /// An attached SBOM
    Sbom,
    /// The artifact itself, by digest
    Digest,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    let request = v1::ResolveReferenceRequest { reference: arguments.reference };
    let held = client.artifacts().resolve_reference(request).await?.into_inner();
    let place = place(&held.repository, &held.digest, arguments.kind);
    if output.is_json() {
        output.document(&json!({ "repository": held.repository, "digest": held.digest, "reference": place }))?;
    } else {
        output.data(&place)?;
    }
    Ok(Exit::Done)
}

/// Names the place as cosign does (facts/sigstore.md 2.4, 2.6).
fn place(repository: &str, digest: &str, kind: Kind) -> String {
    let repository = cosign_name(repository);
    let suffix = match kind {
        Kind::Digest => return format!("{repository}@{digest}"),
        Kind::Signature => "sig",
        Kind::Attestation => "att",
        Kind::Sbom => "sbom",
    };
    format!("{repository}:{}.{suffix}", digest.replacen(':', "-", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_as_cosign_names_them() {
        let place = |kind| place("docker.io/library/alpine", "sha256:ab", kind);
        assert_eq!(place(Kind::Signature), "index.docker.io/library/alpine:sha256-ab.sig");
        assert_eq!(place(Kind::Attestation), "index.docker.io/library/alpine:sha256-ab.att");
        assert_eq!(place(Kind::Sbom), "index.docker.io/library/alpine:sha256-ab.sbom");
        assert_eq!(place(Kind::Digest), "index.docker.io/library/alpine@sha256:ab");
    }
}
