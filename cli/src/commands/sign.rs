//! `larder sign`. The private key stays in this process: the daemon says what to sign, and gets a signature.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use clap::Args;
use larder_proto::v1;
use serde::Deserialize;
use serde_json::json;

use super::read_small;
use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::key_file::{EncryptedKey, KeyFileError, MAX_FILE, PrivateKey};
use crate::output::{Output, text};
use crate::prompt::{self, Asked};

/// The payload's type, by cosign's signature specification.
const PAYLOAD_TYPE: &str = "cosign container image signature";

/// Sign something that is held here, as `cosign sign` does
///
/// The key is decrypted in this process and never leaves it. The password comes from COSIGN_PASSWORD, else from the
/// terminal, else from stdin.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder sign --key cosign.key registry.example.org/store/app:1.4
  larder sign --key cosign.key -a env=prod -a team=store localhost/team/app:dev
  larder push registry.example.org/store/app:1.4    # carries the signature along")]
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
    let request =
        v1::PrepareSignatureRequest { reference: arguments.reference.clone(), annotations: annotations.clone() };
    let prepared = signatures.prepare_signature(request).await?.into_inner();
    inspect(&prepared, &arguments.reference, &annotations).map_err(|odd| refuse(&arguments.reference, odd))?;
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
        format!("signed {subject} with key {key}; the signature is at {}", text::short_digests(&attached.tag))
    } else {
        format!("{subject} had this signature by key {key} already; nothing was changed")
    });
    Ok(Exit::Done)
}

/// The bytes that get signed, with no room for anything that this client does not look at: an unknown field, a field
/// twice, or one in other letters, which some readers take for the same, is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    optional: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Subject,
    r#type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

/// Says in which respect what is to be signed is not what the person asked for.
///
/// What is signed is trusted wherever the key is, and it can not be taken back: so whoever listens at the socket does
/// not get a signature over bytes of its own choice, only over a statement about the digest that is shown.
fn inspect(
    prepared: &v1::PrepareSignatureResponse,
    reference: &str,
    annotations: &HashMap<String, String>,
) -> Result<(), &'static str> {
    let payload: Payload = serde_json::from_slice(&prepared.payload)
        .map_err(|_| "what the daemon gave to sign is no payload of cosign's")?;
    let critical = payload.critical;
    if critical.r#type != PAYLOAD_TYPE {
        return Err("what the daemon gave to sign is a payload of another type");
    }
    if critical.image.docker_manifest_digest != prepared.digest {
        return Err("what the daemon gave to sign names another digest than the daemon's answer");
    }
    if reference.rsplit_once('@').is_some_and(|(_, asked)| asked != prepared.digest) {
        return Err("what the daemon gave to sign names another digest than was asked for");
    }
    if critical.identity.docker_reference != cosign_name(&prepared.repository) {
        return Err("what the daemon gave to sign names another repository than the daemon's answer");
    }
    let said = payload.optional.unwrap_or_default();
    if said.len() != annotations.len() || said.iter().any(|(key, value)| annotations.get(key) != Some(value)) {
        return Err("what the daemon gave to sign says other things beside the digest than was asked for");
    }
    Ok(())
}

/// Writes a repository as cosign does, which calls Docker Hub by the name of its index.
pub(super) fn cosign_name(repository: &str) -> String {
    match repository.strip_prefix("docker.io/") {
        Some(path) => format!("index.docker.io/{path}"),
        None => repository.to_owned(),
    }
}

fn refuse(reference: &str, odd: &str) -> Error {
    Error::new("payload", format!("{reference} was not signed: {odd}"))
        .hint("nothing was signed or stored; `larder daemon status` says which daemon answers")
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

    const DIGEST: &str = "sha256:2640004483400099caaf561d540c6f3feb82d56361b8bdd9f0cc19432c31f0fc";
    const OTHER: &str = "sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1";

    fn prepared(repository: &str, payload: String) -> v1::PrepareSignatureResponse {
        v1::PrepareSignatureResponse {
            repository: repository.to_owned(),
            digest: DIGEST.to_owned(),
            payload: payload.into(),
        }
    }

    fn payload(name: &str, digest: &str, optional: &str) -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{PAYLOAD_TYPE}"}},"optional":{optional}}}"#
        )
    }

    fn accepts(repository: &str, payload: String, reference: &str, annotations: &[(&str, &str)]) -> bool {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        inspect(&prepared(repository, payload), reference, &annotations).is_ok()
    }

    #[test]
    fn what_was_asked_for_is_signed() {
        let (here, tagged) = ("quay.io/a/b", "quay.io/a/b:1");
        assert!(accepts(here, payload(here, DIGEST, "null"), tagged, &[]));
        assert!(accepts(here, payload(here, DIGEST, "null"), &format!("{here}@{DIGEST}"), &[]));
        assert!(accepts(here, payload(here, DIGEST, r#"{"a":"\u003cb"}"#), tagged, &[("a", "<b")]));
        let hub = "docker.io/library/alpine";
        assert!(accepts(hub, payload("index.docker.io/library/alpine", DIGEST, "null"), "alpine", &[]));
    }

    #[test]
    fn nothing_else_is_signed() {
        let (here, tagged) = ("quay.io/a/b", "quay.io/a/b:1");
        let good = payload(here, DIGEST, "null");
        assert!(!accepts(here, payload(here, OTHER, "null"), tagged, &[]), "another digest in the payload");
        assert!(!accepts(here, good.clone(), &format!("{here}@{OTHER}"), &[]), "another digest than was asked for");
        assert!(!accepts(here, payload("quay.io/a/c", DIGEST, "null"), tagged, &[]), "another repository");
        assert!(!accepts(here, payload(here, DIGEST, r#"{"env":"prod"}"#), tagged, &[]), "more than was asked for");
        assert!(!accepts(here, good.clone(), tagged, &[("env", "prod")]), "less than was asked for");
        assert!(!accepts(here, payload(here, DIGEST, r#"{"env":"test"}"#), tagged, &[("env", "prod")]));
        assert!(!accepts(here, good.replace(PAYLOAD_TYPE, "atomic container signature"), tagged, &[]));
        let image = format!(r#""image":{{"docker-manifest-digest":"{DIGEST}"}}"#);
        for trick in [
            format!(r#"{image},"image":{{"docker-manifest-digest":"{OTHER}"}}"#),
            format!(r#"{image},"Image":{{"docker-manifest-digest":"{OTHER}"}}"#),
            image.replace('}', &format!(r#","Docker-Manifest-Digest":"{OTHER}"}}"#)),
        ] {
            assert!(!accepts(here, good.replace(&image, &trick), tagged, &[]), "read differently elsewhere: {trick}");
        }
        for odd in ["", "null", "{}", "[]", "any text, such as a commit", &format!("{good}{good}")] {
            assert!(!accepts(here, odd.to_owned(), tagged, &[]), "{odd:?}");
        }
    }

    #[test]
    fn annotations_are_pairs() {
        assert_eq!(annotation("env=prod=1"), Ok(("env".to_owned(), "prod=1".to_owned())));
        assert_eq!(annotation("env="), Ok(("env".to_owned(), String::new())));
        assert!(annotation("env").is_err() && annotation("=x").is_err());
    }
}
