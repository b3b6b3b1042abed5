//! `larder triangulate`.

use clap::{Args, ValueEnum};
use larder_core::Reference;
use larder_proto::v1;
use serde_json::json;

use super::sign::inspect::cosign_name;
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::habits::Registry;
use crate::output::Output;

/// Print where cosign keeps what belongs to an artifact, as `cosign triangulate` does
///
/// Computed from the digest that is held; of what is not held, from the digest that its registry names. Whether something is
/// there, `larder tree` says. What came as an OCI 1.1 referrer (cosign 3's bundles) has no such tag.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder triangulate docker.io/library/alpine:3.22
  larder triangulate --type sbom registry.example.org/store/app:1.4
  crane manifest $(larder triangulate registry.example.org/store/app:1.4)")]
pub(crate) struct Arguments {
    #[command(flatten)]
    registry: Registry,
    /// Something, held or not
    #[arg(value_name = "REF")]
    reference: String,
    /// Where what of it is kept
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
    arguments.registry.tell(output);
    let client = connect(output).await?;
    let (repository, digest) = resolve(&client, &arguments.reference).await?;
    let place = place(&repository, &digest, arguments.kind);
    if output.is_json() {
        output.document(&json!({ "repository": repository, "digest": digest, "reference": place }))?;
    } else {
        output.data(&place)?;
    }
    Ok(Exit::Done)
}

/// Resolves what is held, or else what its registry names: repository and digest.
async fn resolve(client: &Client, reference: &str) -> Result<(String, String), Error> {
    let request = v1::ResolveReferenceRequest { reference: reference.to_owned() };
    let held = client.artifacts().resolve_reference(request).await.map(|held| held.into_inner());
    let not_held = match held.map_err(Error::from) {
        Ok(held) => return Ok((held.repository, held.digest)),
        Err(error) => error,
    };
    // A bare digest is nobody's, and a local repository is nowhere else.
    let is_elsewhere = reference.parse::<Reference>().is_ok_and(|parsed| !parsed.repository.is_local());
    if not_held.reason() != "not-held" || !is_elsewhere {
        return Err(not_held);
    }
    let request = v1::ResolveRemoteRequest { reference: reference.to_owned() };
    let offered = client.artifacts().resolve_remote(request).await?.into_inner();
    Ok((offered.repository, offered.digest))
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
