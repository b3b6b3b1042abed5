//! `larder attest`.

mod predicate;

use std::path::PathBuf;

use clap::Args;

use super::sign::{Saying, With, say_each};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// Attest something about what is held here, as `cosign attest` does
///
/// The predicate is what a tool has found out about the artifact: an SBOM, its provenance, a vulnerability scan. It is
/// signed together with the artifact's digest. The password comes from COSIGN_PASSWORD, else from the terminal, else
/// from stdin.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder attest --key cosign.key --type spdxjson --predicate sbom.spdx.json localhost/team/app:dev
  larder attest --key cosign.key --type https://example.org/review --predicate review.json --push \\
    registry.example.org/store/app:1.4
  generate | COSIGN_PASSWORD= larder attest --key ci.key --type cyclonedx --predicate - localhost/team/app:dev")]
pub(crate) struct Arguments {
    /// What it is about
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
    /// The file with the predicate; `-` is stdin
    #[arg(long, value_name = "FILE")]
    predicate: PathBuf,
    /// What it is: custom, slsaprovenance, slsaprovenance02, slsaprovenance1, spdx, spdxjson, cyclonedx, link, vuln,
    /// openvex, or a URI
    #[arg(long = "type", value_name = "TYPE", default_value = "custom", value_parser = predicate::Type::parse)]
    kind: predicate::Type,
    #[command(flatten)]
    with: With,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let Arguments { references, predicate, kind, with } = arguments;
    let saying = Saying::Attestation(predicate::read(&predicate, &kind)?);
    say_each(&references, &with, "", &saying, output).await
}
