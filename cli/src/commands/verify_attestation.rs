//! `larder verify-attestation`.

mod policy;

use std::path::PathBuf;

use clap::Args;

use super::verify::asked::{self, Place};
use super::verify::flags::Flags;
use super::verify::names;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// Verify attestations about an image, as `cosign verify-attestation` does
///
/// Looks at every attestation, in both formats, wherever it is found. Prints each that counts as a DSSE envelope, one a line. The
/// trust folder plays no part.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 verified, 10 no attestation, 11 not found, 12 none as asked for, 1 everything else.

Examples:
  larder verify-attestation --key cosign.pub --type spdxjson registry.example.org/store/app:1.4
  larder verify-attestation --key cosign.pub --type vuln --policy no-critical.rego registry.example.org/store/app:1.4
  larder verify-attestation --key cosign.pub --type slsaprovenance1 registry.example.org/store/app:1.4 |
    jq -r .payload | base64 -d"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// The predicate's type: custom, slsaprovenance, slsaprovenance1, spdx, spdxjson, cyclonedx, link, vuln, openvex or a URI
    #[arg(long = "type", value_name = "TYPE", default_value = "custom")]
    predicate_type: String,
    /// A condition in Rego that every attestation must meet: `data.signature.allow` must be true
    #[arg(long, value_name = "FILE.rego")]
    policy: Vec<PathBuf>,
    /// What the attestations are about, held or not
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    if !arguments.flags.decide(false)? {
        let message = "--key, --certificate-identity or --certificate-identity-regexp is needed";
        return Err(
            Error::new("usage", message).hint("policies of the trust folder ask for attestations, too: docs/trust.md")
        );
    }
    let policies = policy::read(&arguments.policy)?;
    let request = arguments.flags.request(output)?;
    for reference in arguments.references {
        let mut request = request.clone();
        request.reference = reference.clone();
        request.attestations = true;
        request.predicate_type.clone_from(&arguments.predicate_type);
        let place = arguments.flags.place();
        let answer = asked::verify(request, place, output).await?;
        policy::check(&policies, &answer)?;
        let name = if place == Place::Layout { reference } else { names::full(&reference) };
        asked::header(&name, &answer).iter().for_each(|line| output.say(line));
        for one in &answer.accepted {
            output.json_line(&asked::envelope(one))?;
        }
    }
    Ok(Exit::Done)
}
