//! `larder sign`. The private key stays in this process: the daemon says what to sign, and gets a signature.

mod habits;
pub(super) mod inspect;
mod signer;
mod told;

use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use larder_proto::v1;

pub(super) use habits::Habits;

use super::push;
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, text};
use crate::sigstore::{self, Said};
use signer::Signer;

/// Sign something that is held here, as `cosign sign` does
///
/// By a key: it is decrypted in this process and never leaves it. The password comes from COSIGN_PASSWORD, else from the
/// terminal, else from stdin.
///
/// Without a key, by an identity token: a key is made for this run, Fulcio certifies whose it is, and a transparency log or a
/// timestamp authority witnesses when it signed. Nobody is asked, and nothing is uploaded, where no service is named.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder sign --key cosign.key registry.example.org/store/app:1.4
  larder sign --key cosign.key -a env=prod,team=store localhost/team/app:dev
  larder sign --key cosign.key --recursive --format both --push registry.example.org/store/app:1.4
  larder sign --identity-token token.jwt --signing-config signing_config.json \\
      --trusted-root trusted_root.json --format bundle registry.example.org/store/app:1.4")]
pub(crate) struct Arguments {
    /// What to sign
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
    /// What the signature says beside the digest; several are divided by commas
    #[arg(short, long = "annotation", visible_alias = "annotations", value_name = "K=V", value_delimiter = ',',
        value_parser = annotation)]
    annotations: Vec<(String, String)>,
    /// Sign not the artifact but the SBOM that is attached to it
    #[arg(long, value_name = "WHAT", conflicts_with = "recursive")]
    attachment: Option<Attachment>,
    #[command(flatten)]
    with: With,
}

/// What signing and attesting have in common.
#[derive(Debug, Args)]
pub(super) struct With {
    /// cosign's encrypted private key file
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// How it is stored: under cosign's tags, as a Sigstore bundle, or both
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(super) format: Format,
    /// cosign's flag for `--format`: true is bundle, false is legacy
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        conflicts_with = "format")]
    pub(super) new_bundle_format: Option<bool>,
    /// Of an index: every manifest that it lists and that is held, too
    #[arg(short, long)]
    pub(super) recursive: bool,
    /// Push it to the registry, with all else that is attached
    #[arg(long)]
    pub(super) push: bool,
    #[command(flatten)]
    pub(super) sigstore: sigstore::flags::Flags,
    #[command(flatten)]
    pub(super) habits: Habits,
}

impl With {
    fn formats(&self) -> &'static [v1::SignatureFormat] {
        use v1::SignatureFormat::{Bundle, Legacy};
        match (self.new_bundle_format, self.format) {
            (Some(true), _) | (None, Format::Bundle) => &[Bundle],
            (Some(false), _) | (None, Format::Legacy) => &[Legacy],
            (None, Format::Both) => &[Legacy, Bundle],
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Under the tags `sha256-<hex>.sig` and `.att`: podman, skopeo and every version of cosign read it
    #[default]
    Legacy,
    /// As a referrer: what cosign 3 writes
    Bundle,
    /// One of each
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Attachment {
    /// The SBOM under `sha256-<hex>.sbom`
    Sbom,
}

/// What is said about a digest.
pub(super) enum Saying {
    /// That it is signed, with annotations.
    Signature(HashMap<String, String>),
    /// A predicate.
    Attestation(Predicate),
}

/// A predicate as it will stand in the statement.
pub(super) struct Predicate {
    /// Its type, a URI.
    pub(super) kind: String,
    /// JSON.
    pub(super) body: Vec<u8>,
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it is written KEY=VALUE".to_owned()),
    }
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let Arguments { references, with, annotations, attachment } = arguments;
    let attachment = if attachment.is_some() { "sbom" } else { "" };
    let saying = Saying::Signature(annotations.into_iter().collect());
    say_each(&references, &with, attachment, &saying, output).await
}

/// Says one thing about every digest that the references cover, in each format, and signs it.
///
/// # Errors
/// Fails at the first that cannot be signed; what was signed before stays.
pub(super) async fn say_each(
    references: &[String],
    with: &With,
    attachment: &str,
    saying: &Saying,
    output: &Output,
) -> Result<Exit, Error> {
    with.habits.tell(output);
    let signer = Signer::prepare(with, output).await?;
    let client = connect(output).await?;
    for reference in references {
        let request = v1::ListSignableRequest {
            reference: reference.clone(),
            recursive: with.recursive,
            attachment: attachment.to_owned(),
        };
        let covered = client.signatures().list_signable(request).await?.into_inner();
        check_covered(reference, &covered, attachment)?;
        if !reference.contains('@') {
            output.warn(&format!(
                "{reference} is a tag, which may name another image tomorrow: what is signed is {}",
                covered.digests.first().map(|digest| text::short(digest)).unwrap_or_default()
            ));
        }
        for digest in &covered.digests {
            for &format in with.formats() {
                let target = Target { repository: &covered.repository, digest, format };
                say_one(&client, &signer, &target, saying, output).await?;
            }
        }
        if with.push {
            push::attached(&client, reference, output).await?;
        }
    }
    Ok(Exit::Done)
}

/// Makes sure that a digest that was asked for is what gets signed. An SBOM's digest is told by the daemon only, and shown.
fn check_covered(reference: &str, covered: &v1::ListSignableResponse, attachment: &str) -> Result<(), Error> {
    let first = covered.digests.first().ok_or_else(|| refuse(reference, "the daemon names no digest for it"))?;
    let asked = reference.rsplit_once('@').map(|(_, digest)| digest);
    if attachment.is_empty() && asked.is_some_and(|asked| asked != first) {
        return Err(refuse(reference, "the daemon names another digest than was asked for"));
    }
    Ok(())
}

/// What is signed, and how.
struct Target<'a> {
    repository: &'a str,
    digest: &'a str,
    format: v1::SignatureFormat,
}

async fn say_one(
    client: &Client,
    signer: &Signer,
    target: &Target<'_>,
    saying: &Saying,
    output: &Output,
) -> Result<(), Error> {
    let Target { repository, digest, format } = *target;
    let name = format!("{repository}@{digest}");
    let (annotations, predicate_type, predicate) = match saying {
        Saying::Signature(annotations) => (annotations.clone(), String::new(), Vec::new()),
        Saying::Attestation(predicate) => (HashMap::new(), predicate.kind.clone(), predicate.body.clone()),
    };
    let request = v1::PrepareSignatureRequest {
        reference: name.clone(),
        annotations,
        format: format.into(),
        predicate_type,
        predicate: predicate.into(),
    };
    let prepared = client.signatures().prepare_signature(request).await?.into_inner();
    if prepared.digest != digest || prepared.repository != repository {
        return Err(refuse(&name, "what the daemon gave to sign is of another artifact"));
    }
    let message = inspect::inspect(&prepared, saying, format).map_err(|odd| refuse(&name, odd))?;
    if let Saying::Signature(_) = saying {
        output.detail(&format!("signing {}", String::from_utf8_lossy(&prepared.payload)));
    }
    let said = match (saying, format) {
        (_, v1::SignatureFormat::Bundle) => Said::Bundled(&prepared.payload),
        (Saying::Signature(_), _) => Said::Payload(&prepared.payload),
        (Saying::Attestation(_), _) => Said::Attestation(&prepared.payload),
    };
    let made = signer.sign(&message, &said).await.map_err(|error| error.about(&name))?;
    let request = v1::AttachSignatureRequest {
        signature: made.signature.into(),
        repository: prepared.repository,
        digest: prepared.digest,
        public_key: made.public_key,
        format: format.into(),
        material: made.material,
        payload: prepared.payload,
    };
    let attached = client.signatures().attach_signature(request).await?.into_inner();
    told::tell(target, &made.testimony, &signer.key_id(), saying, &attached, output)
}

fn refuse(reference: &str, odd: &str) -> Error {
    Error::new("payload", format!("{reference} was not signed: {odd}"))
        .hint("nothing was signed or stored; `larder daemon status` says which daemon answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_pairs() {
        assert_eq!(annotation("env=prod=1"), Ok(("env".to_owned(), "prod=1".to_owned())));
        assert_eq!(annotation("env="), Ok(("env".to_owned(), String::new())));
        assert!(annotation("env").is_err() && annotation("=x").is_err());
    }

    #[test]
    fn a_digest_that_was_asked_for_is_the_one_that_is_signed() {
        let covered = |digests: &[&str]| v1::ListSignableResponse {
            repository: "quay.io/a/b".to_owned(),
            digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
        };
        assert!(check_covered("quay.io/a/b:1", &covered(&["sha256:a"]), "").is_ok());
        assert!(check_covered("quay.io/a/b@sha256:a", &covered(&["sha256:a", "sha256:b"]), "").is_ok());
        assert!(check_covered("quay.io/a/b@sha256:a", &covered(&["sha256:b", "sha256:a"]), "").is_err());
        assert!(check_covered("quay.io/a/b@sha256:a", &covered(&["sha256:b"]), "sbom").is_ok());
        assert!(check_covered("quay.io/a/b:1", &covered(&[]), "").is_err());
    }
}
