//! `larder sign`. The private key stays in this process: the daemon says what to sign, and gets a signature.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use larder_proto::v1;
use serde_json::json;

use super::read_small;
use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::key_file::{EncryptedKey, KeyFileError, MAX_FILE, PrivateKey};
use crate::output::{Output, text};
use crate::prompt::{self, Asked};

/// Sign something that is held here, as `cosign sign` does
///
/// The key is decrypted in this process and never leaves it. The password comes from COSIGN_PASSWORD, else from the
/// terminal, else from stdin.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder sign --key cosign.key registry.example.org/store/app:1.4
  larder sign --key cosign.key -a env=prod -a team=store localhost/team/app:dev
  larder push registry.example.org/store/app:1.4      # carries the signature along")]
pub(crate) struct Arguments {
    /// What to sign
    #[arg(value_name = "REF")]
    reference: String,
    /// cosign's encrypted private key file (ECDSA P-256)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What the signature says beside the digest
    #[arg(short, long = "annotation", value_name = "K=V", value_parser = annotation)]
    annotations: Vec<(String, String)>,
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it is written KEY=VALUE".to_owned()),
    }
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let key = unlock(&arguments.key)?;
    let failed = |error| of_key(&arguments.key, error);
    let (public_key, id) = (key.public_pem().map_err(failed)?, key.id().map_err(failed)?);
    let client = connect(output).await?;
    let mut signatures = client.signatures();
    let annotations: HashMap<String, String> = arguments.annotations.into_iter().collect();
    let request = v1::PrepareSignatureRequest { reference: arguments.reference, annotations };
    let prepared = signatures.prepare_signature(request).await?.into_inner();
    output.detail(&format!("signing {}", String::from_utf8_lossy(&prepared.payload)));
    let request = v1::AttachSignatureRequest {
        signature: key.sign(&prepared.payload).into(),
        repository: prepared.repository.clone(),
        digest: prepared.digest.clone(),
        payload: prepared.payload,
        public_key,
    };
    drop(key);
    let attached = signatures.attach_signature(request).await?.into_inner();
    if output.is_json() {
        output.document(&json!({
            "repository": prepared.repository,
            "digest": prepared.digest,
            "key_id": id,
            "tag": attached.tag,
            "manifest": attached.digest,
            "added": attached.added,
        }))?;
        return Ok(Exit::Done);
    }
    let subject = format!("{}@{}", prepared.repository, text::short(&prepared.digest));
    let key = text::short(&id);
    output.say(&if attached.added {
        format!("signed {subject} with key {key}; the signature is at {}", short_tag(&attached.tag))
    } else {
        format!("{subject} had this signature by key {key} already; nothing was changed")
    });
    Ok(Exit::Done)
}

/// Shortens `sha256-<hex>.sig` for people.
fn short_tag(tag: &str) -> String {
    match tag.split_once('-').and_then(|(algorithm, rest)| Some((algorithm, rest.split_once('.')?))) {
        Some((algorithm, (hex, ending))) => format!("{algorithm}-{}….{ending}", text::short(hex)),
        None => tag.to_owned(),
    }
}

fn unlock(path: &Path) -> Result<PrivateKey, Error> {
    let file = read_small(path, MAX_FILE)?;
    let failed = |error| of_key(path, error);
    let encrypted = EncryptedKey::parse(&file).map_err(failed)?;
    encrypted.decrypt(&prompt::password(Asked::Once)?).map_err(failed)
}

fn of_key(path: &Path, error: KeyFileError) -> Error {
    Error::new("key", format!("{} {error}", path.display())).hint(error.hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_and_tags() {
        assert_eq!(annotation("env=prod=1"), Ok(("env".to_owned(), "prod=1".to_owned())));
        assert_eq!(annotation("env="), Ok(("env".to_owned(), String::new())));
        assert!(annotation("env").is_err() && annotation("=x").is_err());
        assert_eq!(short_tag("sha256-4bcff63911fcb444.sig"), "sha256-4bcff63911fc….sig");
        assert_eq!(short_tag("odd"), "odd");
    }
}
