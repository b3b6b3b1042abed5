//! `larder verify-blob-attestation`: local, without the daemon.

use clap::Args;
use larder_core::Digest;
use larder_core::keyless::Signed;
use larder_core::signature::bundle::Content;
use larder_core::signature::dsse::{COSIGN_SIGN, Envelope, Statement};
use larder_core::signature::predicate;

use super::verify_blob::blob::Blob;
use super::verify_blob::flags::{Flags, usage};
use super::verify_blob::{Run, Source, names, statement, trust};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// cosign's name for a predicate that is a statement itself, which only files have.
const IN_TOTO_NAME: (&str, &str) = ("intoto", "https://in-toto.io/Statement/v0.1");

/// Verify an attestation about a file, offline, as cosign does
///
/// Asks nobody: the evidence is in the bundle, and whom to trust in --trusted-root or --key. The daemon and its trust folder
/// are not looked at.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 verified, 1 everything else.

Examples:
  larder verify-blob-attestation --key cosign.pub --insecure-ignore-tlog --type spdxjson --bundle sbom.sigstore.json app.tgz
  larder verify-blob-attestation --trusted-root trusted_root.json --bundle sbom.sigstore.json --type cyclonedx \\
      --certificate-identity alice@example.com --certificate-oidc-issuer https://accounts.example.com app.tgz")]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// What the attestation must say: custom, slsaprovenance, slsaprovenance1, spdx, spdxjson, cyclonedx, link, vuln, openvex or a URI
    #[arg(long = "type", value_name = "TYPE", default_value = "custom")]
    predicate_type: String,
    /// Whether the attestation must be about the file
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set, hide_possible_values = true)]
    check_claims: bool,
    /// The file's digest in hex, in place of the file
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// The algorithm of --digest
    #[arg(long = "digestAlg", value_name = "ALGORITHM")]
    digest_algorithm: Option<String>,
    /// The file that the attestation is about
    #[arg(value_name = "BLOB")]
    blob: Option<String>,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<Exit, Error> {
    let flags = &arguments.flags;
    let run = Run::prepare(flags, output)?;
    let source = run.source()?;
    if !arguments.check_claims {
        output.say("warning: --check-claims=false: whether the attestation is about the file is not looked at");
    }
    let name =
        arguments.blob.clone().or_else(|| arguments.digest.clone()).unwrap_or_else(|| "the attestation".to_owned());
    let (envelope, accepted) = match source {
        Source::Bundle(bundle) => {
            let Content::Envelope(envelope) = &bundle.content else {
                return Err(Error::new(
                    "not-an-attestation",
                    "the bundle is a signature on a file, not an attestation about it",
                )
                .hint("`larder verify-blob` checks signatures"));
            };
            let root = trust::for_bundle(flags, output)?;
            (envelope.clone(), run.bundle(&bundle, None, &root, &name)?)
        }
        Source::Files(files) => {
            let root = trust::for_files(flags)?;
            let envelope = Envelope::parse(&files.signature).map_err(|error| {
                Error::new(error.reason(), error.to_string())
                    .hint("--signature names the DSSE envelope that `cosign attest-blob --output-attestation` writes")
            })?;
            let signed = Signed::Envelope {
                payload_type: &envelope.payload_type,
                payload: &envelope.payload,
                written: Some(&files.signature),
            };
            let accepted = run.files(&files, signed, &envelope.signature, envelope.key_id.as_deref(), &root, &name)?;
            (envelope.clone(), accepted)
        }
    };
    let statement = statement(&envelope)?;
    check_type(&statement, &arguments.predicate_type)?;
    if arguments.check_claims {
        check_subject(arguments, &statement)?;
    }
    run.verified(&accepted)
}

fn check_type(statement: &Statement, wanted: &str) -> Result<(), Error> {
    let found = statement.predicate_type.as_str();
    let uri = if wanted == IN_TOTO_NAME.0 { IN_TOTO_NAME.1 } else { predicate::uri_of(wanted) };
    if found == COSIGN_SIGN {
        return Err(Error::new("not-an-attestation", "the bundle is a signature, not an attestation")
            .hint("`larder verify-blob` checks signatures"));
    }
    if found == uri {
        return Ok(());
    }
    Err(Error::new(
        "predicate-type",
        format!(
            "the attestation is of the type {found}, and {wanted}{} is asked for",
            if uri == wanted { String::new() } else { format!(" ({uri})") }
        ),
    )
    .hint(format!("--type {found} asks for this one")))
}

/// Checks that the statement is about the file, or about `--digest`.
fn check_subject(arguments: &Arguments, statement: &Statement) -> Result<(), Error> {
    if let Some(name) = &arguments.blob {
        return names(statement, &Blob::read(name, false)?, name);
    }
    let (Some(hex), Some(algorithm)) = (&arguments.digest, &arguments.digest_algorithm) else {
        return Err(usage("the file that the attestation is about is needed, or --digest with --digestAlg")
            .hint("--check-claims=false asks only who attested, not about what"));
    };
    let text = format!("{algorithm}:{}", hex.to_ascii_lowercase());
    let digest: Digest = text.parse().map_err(|error: larder_core::digest::DigestError| usage(&error.to_string()))?;
    if statement.names(&digest) {
        return Ok(());
    }
    Err(Error::new("artifact", format!("the statement in the bundle is not about {digest}"))
        .hint("is this the file that its maker published?"))
}
